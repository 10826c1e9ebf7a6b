// The deep copy protocol of Python's copy module, with tensors staged.
#pragma once

#include "core/path.h"
#include "deepcopy/memo.h"
#include "deepcopy/staged.h"

namespace understudy::python {

/// One walk over an object. Its order, by the first that applies: what the memo
/// has; tensors; exact types; classes; `__deepcopy__`; copyreg; `__reduce_ex__`;
/// `__reduce__`.
///
/// Tensors get their bytes at the end, by StagedStorages::flush. Code that is
/// not ours may look at them before: they are flushed before it runs.
class DeepCopier {
 public:
  /// `memo` may be null; `nil` is a value in it that counts as absent.
  /// `expected`: how many objects the last walk met.
  DeepCopier(StagedStorages& storages, PyObject* memo, PyObject* nil, bool non_blocking,
             std::size_t expected);

  nb::object copy(nb::handle x);
  std::size_t met() const { return memo_.size(); }

 private:
  nb::object node(PyObject* x, const Path& path);
  nb::object made_anew(PyObject* x, const Path& path);
  void tell_place(nb::python_error& error, PyObject* x, const Path& path);
  nb::object remembered(PyObject* x);

  nb::object list(PyObject* x, const Path& path);
  nb::object tuple(PyObject* x, const Path& path);
  nb::object dict(PyObject* x, const Path& path);
  nb::object ordered_dict(PyObject* x, const Path& path);
  nb::object method(PyObject* x, const Path& path);
  nb::object by_protocol(PyObject* x, const Path& path);

  // Tensors (deepcopy_tensors.cpp).
  nb::object tensor(PyObject* x, const Path& path);
  nb::object unusual_tensor(PyObject* x, const Path& path);
  void attribute(const nb::object& y, PyObject* name, PyObject* value, const Path& path);
  void attributes(PyObject* x, const nb::object& y, bool is_exact, bool is_made, const Path& path);
  void slots(PyObject* x, const nb::object& y, bool is_made, const Path& path);

  // What reduce gave (deepcopy_reduce.cpp).
  nb::object reduced(PyObject* x, const Path& path, bool& is_same);
  nb::object reconstruct(PyObject* x, nb::handle parts, const Path& path);
  void set_state(const nb::object& y, nb::handle state, const Path& path);
  void append_items(const nb::object& y, nb::handle items, const Path& path);
  void set_items(const nb::object& y, nb::handle items, const Path& path);

  Path below(PyObject* container, const Path& path) const;
  // Before code that is not ours and may look at what has been handed out, or
  // change what has not been copied.
  void settle();

  StagedStorages& storages_;
  const Torch& torch_;
  Memo memo_;
  nb::object told_;  // the error whose place has been told
  const bool non_blocking_;
};

/// One level of a recursion, over all walks of this thread. Throws
/// RecursionError where Python's limit or ours is reached.
class Level {
 public:
  explicit Level(int weight = 1);
  ~Level();
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int weight_;
};

/// The attribute, or None. What its lookup raises besides AttributeError passes
/// through.
nb::object optional_attribute(nb::handle o, const char* name);

/// Whether a callable is written in C or in a module of the standard library
/// that looks at no tensors.
bool is_trusted(nb::handle callable);

/// copyreg.dispatch_table.
nb::handle dispatch_table();

/// Whether hashing and comparing a key runs no code but Python's own.
bool is_plain_key(nb::handle key);

}  // namespace understudy::python
