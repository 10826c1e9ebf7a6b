#include "deepcopy/memo.h"

#include <bit>

namespace understudy::python {
namespace {

constexpr std::size_t kFirstSlots = 64;

std::size_t hash_of(PyObject* x) {
  // Fibonacci hashing; the lowest bits of an address are always zero.
  return (reinterpret_cast<std::uintptr_t>(x) >> 4) * 0x9e3779b97f4a7c15ull >> 16;
}

nb::object id_of(PyObject* x) {
  return steal_or_throw(PyLong_FromVoidPtr(x));
}

}  // namespace

Memo::Memo(PyObject* dict, PyObject* nil, std::size_t expected) : nil_(nil) {
  if (dict != nullptr) {
    dict_ = nb::borrow(dict);
  } else if (expected > kFirstSlots / 2) {
    slots_.resize(std::bit_ceil(2 * expected + 2));
  }
}

Memo::~Memo() {
  clear();
}

void Memo::clear() {
  // A finalizer may run: the table is gone before the first.
  std::vector<Slot> gone;
  gone.swap(slots_);
  used_ = 0;
  for (auto& slot : gone) {
    Py_XDECREF(slot.copy);
    Py_XDECREF(slot.original);
  }
}

Memo::Slot& Memo::slot_of(PyObject* x) {
  auto i = hash_of(x) & (slots_.size() - 1);
  while (slots_[i].original != nullptr && slots_[i].original != x)
    i = (i + 1) & (slots_.size() - 1);
  return slots_[i];
}

PyObject* Memo::find(PyObject* x) const {
  if (dict_.is_valid()) {
    auto* found = PyDict_GetItemWithError(dict_.ptr(), id_of(x).ptr());
    throw_if(found == nullptr && PyErr_Occurred() != nullptr);
    return found == nil_ ? nullptr : found;
  }
  return slots_.empty() ? nullptr : const_cast<Memo*>(this)->slot_of(x).copy;
}

void Memo::put(PyObject* x, PyObject* copy) {
  if (dict_.is_valid()) return put_into_dict(x, copy);
  if (2 * (used_ + 1) > slots_.size()) grow();
  auto& slot = slot_of(x);
  if (slot.original == nullptr) {
    slot.original = Py_NewRef(x);
    ++used_;
  }
  auto* before = std::exchange(slot.copy, Py_NewRef(copy));
  Py_XDECREF(before);
}

void Memo::grow() {
  std::vector<Slot> old(slots_.empty() ? kFirstSlots : 2 * slots_.size());
  old.swap(slots_);
  for (const auto& slot : old) {
    if (slot.original != nullptr) slot_of(slot.original) = slot;
  }
}

void Memo::put_into_dict(PyObject* x, PyObject* copy) {
  const auto id = id_of(x);
  const bool is_new = PyDict_GetItemWithError(dict_.ptr(), id.ptr()) != copy;
  throw_if(PyErr_Occurred() != nullptr);
  throw_if(PyDict_SetItem(dict_.ptr(), id.ptr(), copy) != 0);
  if (!is_new) return;
  // Where copy.deepcopy keeps its originals alive, too.
  const auto own_id = id_of(dict_.ptr());
  auto* originals = PyDict_GetItemWithError(dict_.ptr(), own_id.ptr());
  throw_if(originals == nullptr && PyErr_Occurred() != nullptr);
  if (originals == nullptr) {
    const auto made = steal_or_throw(PyList_New(0));
    throw_if(PyDict_SetItem(dict_.ptr(), own_id.ptr(), made.ptr()) != 0);
    originals = made.ptr();
  }
  throw_if(PyList_Append(originals, x) != 0);
}

nb::handle Memo::dict() {
  if (!dict_.is_valid()) {
    dict_ = steal_or_throw(PyDict_New());
    for (const auto& slot : slots_) {
      if (slot.original != nullptr) put_into_dict(slot.original, slot.copy);
    }
    clear();
  }
  return dict_;
}

}  // namespace understudy::python
