// What a deep copy has met already, by identity, as copy.deepcopy's memo.
#pragma once

#include <vector>

#include "core/common.h"

namespace understudy::python {

/// A table of our own until somebody else needs to see it; from then on, or
/// from the beginning when the caller brought one, a dict from id to copy.
/// Either keeps the originals alive, so that no identity comes to mean another.
class Memo {
 public:
  /// `dict` may be null. A value in it that is `nil` counts as absent.
  /// `expected`: how many originals there will be, more or less.
  Memo(PyObject* dict, PyObject* nil, std::size_t expected = 0);
  ~Memo();
  Memo(const Memo&) = delete;
  Memo& operator=(const Memo&) = delete;

  /// The copy of `x`, borrowed, or null.
  PyObject* find(PyObject* x) const;
  void put(PyObject* x, PyObject* copy);

  /// Objects that nobody has met cannot be in a table that is only ours.
  bool is_shared() const { return dict_.is_valid(); }
  std::size_t size() const { return used_; }
  /// The dict, for those who take part in the protocol.
  nb::handle dict();

 private:
  struct Slot {
    PyObject* original = nullptr;
    PyObject* copy = nullptr;
  };

  Slot& slot_of(PyObject* x);
  void grow();
  void put_into_dict(PyObject* x, PyObject* copy);
  void clear();

  nb::object dict_;
  PyObject* nil_;
  std::vector<Slot> slots_;  // open addressing; a power of two
  std::size_t used_ = 0;
};

}  // namespace understudy::python
