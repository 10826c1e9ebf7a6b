#include "core/errors.h"
#include "deepcopy/deepcopy.h"

namespace understudy::python {

nb::object DeepCopier::tensor(PyObject* x, const Path& path) {
  const bool is_exact = torch_.tensor.is(reinterpret_cast<PyObject*>(Py_TYPE(x))) ||
                        torch_.parameter.is(reinterpret_cast<PyObject*>(Py_TYPE(x)));
  auto y = is_exact ? storages_.stage(x) : nb::object();
  if (!y.is_valid()) y = unusual_tensor(x, path);
  memo_.put(x, y.ptr());
  // A wrapper's class has made the result from its parts, attributes and all.
  const bool is_made =
      !is_exact &&
      nb::cast<bool>(
          nb::module_::import_("understudy._tensors").attr("is_made_of_parts")(nb::handle(x)));
  attributes(x, y, is_exact, is_made, path);
  if (!is_exact) slots(x, y, is_made, path);
  return y;
}

// Subclasses, wrappers, sparse and quantised tensors, other devices: by what
// their classes offer, in Python.
nb::object DeepCopier::unusual_tensor(PyObject* x, const Path& path) {
  constexpr int kLevelsOfPython = 8;  // the parts come back by way of its machinery
  const Level level(kLevelsOfPython);
  const Path here = below(x, path);
  const Path part{&here, nullptr, -1, nullptr, path.depth + 1};
  const auto stage = nb::cpp_function([&](nb::handle o) { return node(o.ptr(), part); });
  const auto stage_storage =
      nb::cpp_function([&](nb::handle storage) { return storages_.stage_storage(storage); });
  const auto settle_all = nb::cpp_function([&] { settle(); });
  const auto text = path.place();
  const nb::str place(text.data(), text.size());
  const auto stage_tensor = nb::module_::import_("understudy._tensors").attr("stage_tensor");
  return stage_tensor(nb::handle(x), stage, stage_storage, settle_all, place);
}

void DeepCopier::attribute(const nb::object& y, PyObject* name, PyObject* value, const Path& path) {
  const Level level(2);
  const Path here = below(nullptr, path);
  const auto copy = node(value, {&here, name, -1, nullptr, path.depth + 1});
  if (!torch_.tensor.is(y.type())) settle();  // properties, and __setattr__
  throw_if(PyObject_SetAttr(y.ptr(), name, copy.ptr()) != 0);
}

void DeepCopier::attributes(PyObject* x, const nb::object& y, bool is_exact, bool is_made,
                            const Path& path) {
  static auto* const name = interned("__dict__");
  const auto own =
      is_exact ? steal_or_throw(PyObject_GenericGetDict(x, nullptr)) : get_attribute(x, name);
  if (PyDict_Size(own.ptr()) == 0) return;
  // Others' operations may hand the source's own attributes on.
  const auto there = get_attribute(y.ptr(), name);
  const auto items = steal_or_throw(PyDict_Items(own.ptr()));
  for (Py_ssize_t i = 0; i < PyList_Size(items.ptr()); ++i) {
    auto* item = PyList_GetItem(items.ptr(), i);
    auto* key = PyTuple_GetItem(item, 0);
    auto* value = PyTuple_GetItem(item, 1);
    auto* made = PyDict_GetItemWithError(there.ptr(), key);
    throw_if(made == nullptr && PyErr_Occurred() != nullptr);
    if (made == nullptr || (made == value && !is_made)) attribute(y, key, value, path);
  }
}

void DeepCopier::slots(PyObject* x, const nb::object& y, bool is_made, const Path& path) {
  const nb::handle source(x);
  const nb::object names =
      nb::module_::import_("understudy._tensors").attr("slots_of")(source.type());
  // Not by way of a __getattr__ of the class.
  const auto own = [](PyObject* o, PyObject* name) {
    auto found = nb::steal(PyObject_GenericGetAttr(o, name));
    if (!found.is_valid()) PyErr_Clear();
    return found;
  };
  for (const nb::handle name : names) {
    const auto value = own(x, name.ptr());
    if (!value.is_valid() || (is_made && own(y.ptr(), name.ptr()).is_valid())) continue;
    attribute(y, name.ptr(), value.ptr(), path);
  }
}

}  // namespace understudy::python
