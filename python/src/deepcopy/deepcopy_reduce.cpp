// Objects that say how to make them anew: copyreg, __reduce_ex__, __reduce__.
#include <algorithm>

#include "core/errors.h"
#include "deepcopy/deepcopy.h"
#include "frameworks/types.h"

namespace understudy::python {
namespace {

struct Copyreg {
  nb::handle table;  // kept for ever
  nb::handle new_object;
};

const Copyreg& copyreg() {
  static const Copyreg* known = [] {
    const auto module = nb::module_::import_("copyreg");
    return new Copyreg{nb::object(module.attr("dispatch_table")).release(),
                       nb::object(module.attr("__newobj__")).release()};
  }();
  return *known;
}

nb::object reduce(nb::handle x) {
  auto* reductor =
      PyDict_GetItemWithError(copyreg().table.ptr(), reinterpret_cast<PyObject*>(x.type().ptr()));
  throw_if(reductor == nullptr && PyErr_Occurred() != nullptr);
  if (reductor != nullptr && PyObject_IsTrue(reductor) == 1) return nb::handle(reductor)(x);
  const auto extended = optional_attribute(x, "__reduce_ex__");
  if (!extended.is_none()) return extended(4);
  const auto plain = optional_attribute(x, "__reduce__");
  if (!plain.is_none()) return plain();
  PyErr_Format(PyExc_RuntimeError, "un(deep)copyable object of type %R", x.type().ptr());
  throw nb::python_error();
}

// Whether asking an object how to make it anew runs code of its own.
bool has_own_reduce(nb::handle x) {
  const auto type = x.type();
  if (PyDict_Contains(copyreg().table.ptr(), type.ptr()) != 0) return true;
  for (const char* name :
       {"__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"}) {
    const auto method = optional_attribute(type, name);
    if (!method.is_none() && !is_trusted(method)) return true;
  }
  return false;
}

// Types that keep what they are given and do not look at it.
bool is_container(nb::handle type) {
  static const auto* known = [] {
    auto types = std::make_unique<std::vector<nb::object>>();
    const std::pair<const char*, const char*> names[] = {
        {"collections", "OrderedDict"}, {"collections", "defaultdict"}, {"collections", "Counter"},
        {"collections", "deque"},       {"types", "SimpleNamespace"},   {"builtins", "list"},
        {"builtins", "tuple"},          {"builtins", "dict"},           {"builtins", "slice"},
        {"builtins", "object"},
    };
    for (const auto& [module, name] : names) types->push_back(standard_type(module, name));
    return types.release();
  }();
  return std::any_of(known->begin(), known->end(), [&](const auto& t) { return t.is(type); });
}

// Whether `method` is what one of those types has under the name.
bool is_of_container(nb::handle method, const char* name) {
  for (const char* base : {"object", "list", "dict", "tuple"}) {
    if (nb::getattr(standard_type("builtins", base), name, nb::none()).is(method)) return true;
  }
  for (const char* base : {"OrderedDict", "deque", "defaultdict", "Counter"}) {
    if (nb::getattr(standard_type("collections", base), name, nb::none()).is(method)) return true;
  }
  return false;
}

// Whether calling it runs nothing that could look at a tensor.
bool is_harmless(nb::handle func, nb::handle args) {
  if (func.is(copyreg().new_object) && nb::len(args) > 0) {
    const nb::object type = args[0];
    const nb::object maker = type.attr("__new__");
    if (nb::getattr(maker, "__self__", nb::none()).is(type) && !is_container(type)) return false;
    const nb::object owner = nb::getattr(maker, "__self__", nb::none());
    if (is_container(owner)) return true;
    const nb::object module = nb::getattr(maker, "__module__", nb::none());
    return PyUnicode_Check(module.ptr()) != 0 && text_of(module).starts_with("namedtuple_");
  }
  return is_container(func);
}

}  // namespace

nb::handle dispatch_table() {
  return copyreg().table;
}

nb::object DeepCopier::reduced(PyObject* x, const Path& path, bool& is_same) {
  if (has_own_reduce(x)) settle();
  const auto parts = reduce(x);
  if (PyUnicode_Check(parts.ptr()) != 0) {
    is_same = true;
    return nb::borrow(x);
  }
  if (PyTuple_Check(parts.ptr()) == 0) {
    PyErr_Format(PyExc_TypeError, "__reduce__ must return a string or tuple, not %R",
                 parts.type().ptr());
    throw nb::python_error();
  }
  const auto size = PyTuple_Size(parts.ptr());
  if (size < 2 || size > 5) {
    PyErr_Format(PyExc_RuntimeError, "Unexpected pickle protocol return value length: %zd", size);
    throw nb::python_error();
  }
  return reconstruct(x, parts, path);
}

nb::object DeepCopier::reconstruct(PyObject* x, nb::handle parts, const Path& path) {
  const auto part = [&](Py_ssize_t i) {
    return i < PyTuple_Size(parts.ptr()) ? nb::borrow(PyTuple_GetItem(parts.ptr(), i)) : nb::none();
  };
  const auto func = part(0);
  auto args = part(1);
  if (PyObject_IsTrue(args.ptr()) == 1) {
    const auto given = steal_or_throw(PySequence_Tuple(args.ptr()));
    const auto size = PyTuple_Size(given.ptr());
    args = steal_or_throw(PyTuple_New(size));
    for (Py_ssize_t i = 0; i < size; ++i) {
      auto copy = node(PyTuple_GetItem(given.ptr(), i), path);
      throw_if(PyTuple_SetItem(args.ptr(), i, copy.release().ptr()) != 0);
    }
  }
  if (!is_harmless(func, args)) settle();
  const auto given = steal_or_throw(PySequence_Tuple(args.ptr()));
  auto y = steal_or_throw(PyObject_CallObject(func.ptr(), given.ptr()));
  memo_.put(x, y.ptr());
  if (const auto state = part(2); !state.is_none()) set_state(y, state, path);
  if (const auto items = part(3); !items.is_none()) append_items(y, items, path);
  if (const auto items = part(4); !items.is_none()) set_items(y, items, path);
  return y;
}

void DeepCopier::set_state(const nb::object& y, nb::handle given, const Path& path) {
  auto state = node(given.ptr(), path);
  if (const auto setter = optional_attribute(y, "__setstate__"); !setter.is_none()) {
    settle();
    setter(state);
    return;
  }
  nb::object slots = nb::none();
  if (PyTuple_Check(state.ptr()) != 0 && PyTuple_Size(state.ptr()) == 2) {
    slots = nb::borrow(PyTuple_GetItem(state.ptr(), 1));
    state = nb::borrow(PyTuple_GetItem(state.ptr(), 0));
  }
  if (!state.is_none()) {
    const nb::object table = y.attr("__dict__");
    if (!table.type().is(reinterpret_cast<PyObject*>(&PyDict_Type))) settle();
    table.attr("update")(state);
  }
  if (slots.is_none()) return;
  settle();  // properties, and __setattr__
  for (const nb::handle item : nb::object(slots.attr("items")())) {
    throw_if(PyObject_SetAttr(y.ptr(), nb::object(item[0]).ptr(), nb::object(item[1]).ptr()) != 0);
  }
}

void DeepCopier::append_items(const nb::object& y, nb::handle items, const Path& path) {
  const nb::object append = y.attr("append");
  const bool is_foreign = !is_of_container(nb::handle(y.type()).attr("append"), "append");
  Py_ssize_t i = 0;
  for (const nb::handle item : items) {
    const auto held = nb::borrow(item);
    const Path here = below(nullptr, path);
    const auto copy = node(item.ptr(), {&here, nullptr, i++, nullptr, path.depth + 1});
    if (is_foreign) settle();
    append(copy);
  }
}

void DeepCopier::set_items(const nb::object& y, nb::handle items, const Path& path) {
  const bool is_foreign = !is_of_container(nb::handle(y.type()).attr("__setitem__"), "__setitem__");
  for (const nb::handle pair : items) {
    const auto fast = steal_or_throw(PySequence_Tuple(pair.ptr()));
    auto* key = PyTuple_GetItem(fast.ptr(), 0);
    auto* value = PyTuple_GetItem(fast.ptr(), 1);
    throw_if(key == nullptr || value == nullptr);
    const Path here = below(nullptr, path);
    const Path place{&here, key, -1, nullptr, path.depth + 1};
    const auto key_copy = node(key, place);
    const auto copy = node(value, place);
    if (is_foreign || !is_plain_key(key_copy)) settle();
    throw_if(PyObject_SetItem(y.ptr(), key_copy.ptr(), copy.ptr()) != 0);
  }
}

}  // namespace understudy::python
