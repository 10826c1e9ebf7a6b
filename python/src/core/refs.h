// References to Python objects that C++ may drop on any thread.
//
// Workers never take the GIL, so a drop is only queued. The main thread empties the queue
// when it runs code of Python's next, and every call from Python, which begins and ends
// with an Entry. What is queued when the interpreter ends, or after, is never freed.
#pragma once

#include <memory>
#include <vector>

#include "core/common.h"
#include "core/parked.h"
#include "understudy/waiting.h"

namespace understudy::python {

/// Many references with one owner.
class Refs {
 public:
  Refs() = default;
  ~Refs();
  Refs(const Refs&) = delete;
  Refs& operator=(const Refs&) = delete;

  /// Takes over the reference; gives the object back for use.
  PyObject* add(nb::object o);
  void reserve(std::size_t count) { objects_.reserve(count); }

 private:
  std::vector<PyObject*> objects_;
};

/// An owner of one object; get() is the PyObject*.
std::shared_ptr<void> hold(nb::object o);

/// Before the interpreter ends: from now on the main thread is not asked any more.
void stop_asking();

/// Stands first in every function that Python calls. Where such a call waits in the library,
/// signals are handled, and the garbage is collected once: a cycle of it may hold what is
/// waited for.
class Entry {
 public:
  Entry();
  ~Entry();
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

 private:
  Inside inside_;
  bool has_collected_ = false;
  const WhileWaiting awake_;
};

}  // namespace understudy::python
