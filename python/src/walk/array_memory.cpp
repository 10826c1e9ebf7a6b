#include "walk/array_memory.h"

#include <utility>

#include "core/buffer.h"
#include "frameworks/frameworks.h"

namespace understudy::python {
namespace {

// The bytes from the first to behind the last that elements lie in.
std::pair<const char*, const char*> span_of(const Py_buffer& view) {
  const auto* first = static_cast<const char*>(view.buf);
  const auto* last = first;
  for (int d = 0; d < view.ndim; ++d) {
    if (view.shape[d] == 0) return {first, first};
    const auto reach = (view.shape[d] - 1) * view.strides[d];
    (reach < 0 ? first : last) += reach;
  }
  return {first, last + view.itemsize};
}

// The array at the end of the chain of bases; nothing for one that is no view of an array.
nb::object owner_of(PyObject* array) {
  static auto* const name = interned("base");
  const auto* numpy = numpy_if_loaded();
  if (numpy == nullptr || !nb::isinstance(array, numpy->ndarray)) return {};
  const auto& ndarray = numpy->ndarray;
  nb::object owner;
  for (auto base = get_attribute(array, name); nb::isinstance(base, ndarray);
       base = get_attribute(base.ptr(), name)) {
    owner = base;
  }
  return owner;
}

}  // namespace

bool is_within_its_owner(PyObject* array, const Py_buffer& view) {
  const auto owner = owner_of(array);
  if (!owner.is_valid()) return true;
  Buffer whole;
  if (!whole.get(owner.ptr(), PyBUF_STRIDES)) {
    PyErr_Clear();  // of a type that the protocol cannot say
    return true;
  }
  const auto [first, last] = span_of(view);
  const auto [begin, end] = span_of(whole.view());
  return first == last || (begin <= first && last <= end);
}

}  // namespace understudy::python
