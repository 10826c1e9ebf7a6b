// A view of an object through Python's buffer protocol.
#pragma once

#include "core/common.h"

namespace understudy::python {

/// Given back at the end.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() {
    if (has_view_) PyBuffer_Release(&view_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  /// Whether the object has one; if not, a Python error is set.
  bool get(PyObject* o, int flags = PyBUF_FORMAT | PyBUF_STRIDES) {
    has_view_ = PyObject_GetBuffer(o, &view_, flags) == 0;
    return has_view_;
  }
  const Py_buffer& view() const { return view_; }

 private:
  Py_buffer view_{};
  bool has_view_ = false;
};

}  // namespace understudy::python
