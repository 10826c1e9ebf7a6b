// Letting the GIL go and taking it again: the only way that this binding does it.
#pragma once

#include "core/common.h"
#include "core/parked.h"

namespace understudy::python {

/// No GIL in its scope.
class WithoutGil {
 public:
  WithoutGil() noexcept : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    hold_back();
    PyEval_RestoreThread(state_);
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  Outside outside_;  // begins before the GIL goes, and ends when it is back
  PyThreadState* state_;
};

/// The GIL in its scope, on any thread.
class WithGil {
 public:
  WithGil() : state_(PyGILState_Ensure()) {}
  ~WithGil() { PyGILState_Release(state_); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;

 private:
  PyGILState_STATE state_;
  Inside inside_;
};

}  // namespace understudy::python
