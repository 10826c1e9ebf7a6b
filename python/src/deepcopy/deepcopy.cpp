#include "deepcopy/deepcopy.h"

#include <algorithm>
#include <unordered_set>

#include "core/errors.h"
#include "frameworks/types.h"

namespace understudy::python {
namespace {

// Bounds the stack where a user has raised Python's own limit: a level takes
// well under 2 KiB of at least 8 MiB.
constexpr int kMaxDepth = 2500;
thread_local int depth = 0;

// Besides the rules for scalars: what copy.deepcopy gives back as it is.
bool is_own_copy(PyTypeObject* type) {
  static const auto* atomic = [] {
    auto types = std::make_unique<std::unordered_set<PyTypeObject*>>();
    const auto module = nb::module_::import_("types");
    const auto add = [&](nb::handle t) {
      types->insert(reinterpret_cast<PyTypeObject*>(nb::borrow(t).release().ptr()));
    };
    for (const char* name : {"CodeType", "BuiltinFunctionType", "FunctionType"}) {
      add(module.attr(name));
    }
    add(nb::module_::import_("weakref").attr("ref"));
    types->insert(&PyType_Type);
    types->insert(&PyProperty_Type);
    return types.release();
  }();
  return atomic->contains(type);
}

// The same question of types with a rule.
bool is_own_copy(Rule rule) {
  return is_scalar_rule(rule) || rule == Rule::range;
}

PyTypeObject* method_type() {
  static const auto type = nb::module_::import_("types").attr("MethodType");
  static auto* kept = nb::borrow(type).release().ptr();
  return reinterpret_cast<PyTypeObject*>(kept);
}

bool has_text_keys(PyObject* dict) {
  PyObject *key = nullptr, *value = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(dict, &position, &key, &value) != 0) {
    if (PyUnicode_CheckExact(key) == 0) return false;
  }
  return true;
}

// The copies of arrays of NumPy, but for those of objects, and of what the
// standard library has.
bool is_harmless_copier(nb::handle copier) {
  const nb::object owner = optional_attribute(copier, "__self__");
  const auto* numpy = numpy_if_loaded();
  if (numpy != nullptr && owner.type().is(numpy->ndarray)) {
    return !nb::cast<bool>(owner.attr("dtype").attr("hasobject"));
  }
  return is_trusted(copier);
}

[[noreturn]] void raise_changed(const char* what) {
  PyErr_Format(PyExc_RuntimeError, "%s changed size during iteration", what);
  throw nb::python_error();
}

}  // namespace

Level::Level(int weight) : weight_(weight) {
  throw_if(Py_EnterRecursiveCall(" while a state is staged") != 0);
  depth += weight_;
  if (depth <= kMaxDepth) return;
  depth -= weight_;
  Py_LeaveRecursiveCall();
  PyErr_Format(PyExc_RecursionError, "the state is nested deeper than %d containers", kMaxDepth);
  throw nb::python_error();
}

Level::~Level() {
  depth -= weight_;
  Py_LeaveRecursiveCall();
}

nb::object optional_attribute(nb::handle o, const char* name) {
  auto found = nb::steal(PyObject_GetAttrString(o.ptr(), name));
  if (found.is_valid()) return found;
  throw_if(PyErr_ExceptionMatches(PyExc_AttributeError) == 0);
  PyErr_Clear();
  return nb::none();
}

bool is_trusted(nb::handle callable) {
  const nb::object module = nb::getattr(callable, "__module__", nb::none());
  if (PyUnicode_Check(module.ptr()) != 0) {
    static constexpr std::string_view kKnown[] = {
        "argparse", "collections", "copyreg", "dataclasses", "datetime",
        "enum",     "fractions",   "pathlib", "_pydecimal",  "uuid",
    };
    return std::find(std::begin(kKnown), std::end(kKnown), text_of(module)) != std::end(kKnown);
  }
  for (const auto* type : {"MethodDescriptorType", "WrapperDescriptorType", "BuiltinFunctionType",
                           "ClassMethodDescriptorType", "MethodWrapperType"}) {
    if (callable.type().is(standard_type("types", type))) return true;
  }
  return false;
}

bool is_plain_key(nb::handle key) {
  return is_own_copy(rule_of(Py_TYPE(key.ptr())));
}

DeepCopier::DeepCopier(StagedStorages& storages, PyObject* memo, PyObject* nil, bool non_blocking,
                       std::size_t expected)
    : storages_(storages),
      torch_(*torch_or_import()),
      memo_(memo, nil, expected),
      non_blocking_(non_blocking) {
  refresh_types();
}

nb::object DeepCopier::copy(nb::handle x) {
  return node(x.ptr(), Path{});
}

nb::object DeepCopier::remembered(PyObject* x) {
  auto* copy = memo_.find(x);
  return copy == nullptr ? nb::object() : nb::borrow(copy);
}

nb::object DeepCopier::node(PyObject* x, const Path& path) {
  auto* type = Py_TYPE(x);
  const auto rule = rule_of(type);
  if (is_own_copy(rule) && !memo_.is_shared()) return nb::borrow(x);
  if (auto copy = remembered(x); copy.is_valid()) return copy;
  try {
    return made_anew(x, path);
  } catch (nb::python_error& error) {
    tell_place(error, x, path);
    throw;
  }
}

nb::object DeepCopier::made_anew(PyObject* x, const Path& path) {
  auto* type = Py_TYPE(x);
  const auto rule = rule_of(type);
  switch (rule) {
    case Rule::torch_tensor:
    case Rule::torch_parameter: return tensor(x, path);
    case Rule::list: return list(x, path);
    case Rule::tuple: return tuple(x, path);
    case Rule::dict: return dict(x, path);
    case Rule::ordered_dict: return ordered_dict(x, path);
    default: break;
  }
  if (is_own_copy(rule) || is_own_copy(type)) return nb::borrow(x);
  if (PyType_IsSubtype(type, reinterpret_cast<PyTypeObject*>(torch_.tensor.ptr())) != 0) {
    return tensor(x, path);
  }
  if (type == method_type()) return method(x, path);
  if (PyType_Check(x)) return nb::borrow(x);
  return by_protocol(x, path);
}

// The innermost object tells. The same class of error, with the place in its
// message, for those that Python raises with a text alone; a note for others.
// Ours have it already, and where too much is nested it would be too long.
void DeepCopier::tell_place(nb::python_error& error, PyObject* x, const Path& path) {
  const auto value = error.value();
  if (value.is(told_) || !error.matches(PyExc_Exception) || error.matches(error_type()) ||
      error.matches(PyExc_RecursionError) || error.matches(PyExc_MemoryError)) {
    return;
  }
  told_ = nb::borrow(value);
  const auto what = fmt::format("{}, {}", name_of_type(nb::handle(x).type()), path.place());
  const nb::object args = value.attr("args");
  const auto is_of = [&](PyObject* type) { return value.type().is(type); };
  const bool is_plain = is_of(PyExc_TypeError) || is_of(PyExc_RuntimeError) ||
                        is_of(PyExc_ValueError) || is_of(PyExc_AttributeError);
  if (is_plain && nb::len(args) == 1 && PyUnicode_Check(nb::object(args[0]).ptr()) != 0) {
    const auto text = fmt::format("{} ({})", text_of(args[0]), what);
    value.attr("args") = nb::make_tuple(nb::str(text.data(), text.size()));
  } else {
    add_note(error, fmt::format("raised by the {}", what));
  }
}

// The same place one container deeper.
Path DeepCopier::below(PyObject* container, const Path& path) const {
  Path here = path;
  here.container = container;
  return here;
}

nb::object DeepCopier::list(PyObject* x, const Path& path) {
  const Level level;
  const Path here = below(x, path);
  auto y = steal_or_throw(PyList_New(0));
  memo_.put(x, y.ptr());
  // Code that is not ours may change it meanwhile.
  for (Py_ssize_t i = 0; i < PyList_Size(x); ++i) {
    const auto item = nb::borrow(PyList_GetItem(x, i));
    const auto copy = node(item.ptr(), {&here, nullptr, i, nullptr, path.depth + 1});
    throw_if(PyList_Append(y.ptr(), copy.ptr()) != 0);
  }
  return y;
}

nb::object DeepCopier::tuple(PyObject* x, const Path& path) {
  const Level level;
  const Path here = below(x, path);
  const auto size = PyTuple_Size(x);
  const auto y = steal_or_throw(PyTuple_New(size));
  bool is_same = true;
  for (Py_ssize_t i = 0; i < size; ++i) {
    auto* item = PyTuple_GetItem(x, i);
    auto copy = node(item, {&here, nullptr, i, nullptr, path.depth + 1});
    is_same = is_same && copy.is(item);
    throw_if(PyTuple_SetItem(y.ptr(), i, copy.release().ptr()) != 0);
  }
  // A tuple that holds itself, by way of a list, has been copied below.
  if (auto copy = remembered(x); copy.is_valid()) return copy;
  if (is_same) return nb::borrow(x);
  memo_.put(x, y.ptr());
  return y;
}

nb::object DeepCopier::dict(PyObject* x, const Path& path) {
  const Level level;
  const Path here = below(x, path);
  const auto size = PyDict_Size(x);
  // A copy has its size from the beginning; all its values are replaced.
  auto y = steal_or_throw(has_text_keys(x) ? PyDict_Copy(x) : PyDict_New());
  memo_.put(x, y.ptr());
  PyObject *key = nullptr, *value = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(x, &position, &key, &value) != 0) {
    const auto held_key = nb::borrow(key), held_value = nb::borrow(value);
    const Path place{&here, key, -1, nullptr, path.depth + 1};
    const auto key_copy = node(key, place);
    const auto copy = node(value, place);
    if (!is_plain_key(key_copy)) settle();
    throw_if(PyDict_SetItem(y.ptr(), key_copy.ptr(), copy.ptr()) != 0);
    if (PyDict_Size(x) != size) raise_changed("dictionary");
  }
  return y;
}

// As reduce would have it: the attributes first, then the items in its own
// order, which it keeps beside the table of a dict.
nb::object DeepCopier::ordered_dict(PyObject* x, const Path& path) {
  if (PyDict_GetItem(dispatch_table().ptr(), reinterpret_cast<PyObject*>(Py_TYPE(x))) != nullptr) {
    return by_protocol(x, path);
  }
  const Level level;
  const Path here = below(x, path);
  auto y = nb::handle(reinterpret_cast<PyObject*>(Py_TYPE(x)))();
  memo_.put(x, y.ptr());
  static auto* const attributes = interned("__dict__");
  const auto state = get_attribute(x, attributes);
  if (PyDict_Size(state.ptr()) > 0) {
    const auto copy = node(state.ptr(), path);
    throw_if(PyDict_Update(get_attribute(y.ptr(), attributes).ptr(), copy.ptr()) != 0);
  }
  for (const nb::handle key : nb::handle(x)) {
    const auto value = nb::borrow(PyDict_GetItemWithError(x, key.ptr()));
    if (!value.is_valid()) raise_changed("OrderedDict");
    const Path place{&here, key.ptr(), -1, nullptr, path.depth + 1};
    const auto key_copy = node(key.ptr(), place);
    const auto copy = node(value.ptr(), place);
    if (!is_plain_key(key_copy)) settle();
    throw_if(PyObject_SetItem(y.ptr(), key_copy.ptr(), copy.ptr()) != 0);
  }
  return y;
}

nb::object DeepCopier::method(PyObject* x, const Path& path) {
  const Level level;
  const nb::handle bound(x);
  const nb::object owner = bound.attr("__self__");
  auto y = bound.type()(bound.attr("__func__"), node(owner.ptr(), path));
  memo_.put(x, y.ptr());
  return y;
}

nb::object DeepCopier::by_protocol(PyObject* x, const Path& path) {
  const Level level;
  const Path here = below(x, path);
  const auto deeper = Path{&here, nullptr, -1, nullptr, path.depth + 1};
  const nb::handle object(x);
  bool is_same = false;
  nb::object y;
  if (const auto copier = optional_attribute(object, "__deepcopy__"); !copier.is_none()) {
    if (!is_harmless_copier(copier)) settle();
    y = copier(memo_.dict());
    is_same = y.is(object);
  } else {
    y = reduced(x, deeper, is_same);
  }
  if (!is_same) memo_.put(x, y.ptr());
  return y;
}

void DeepCopier::settle() {
  storages_.flush(non_blocking_, true);
}

}  // namespace understudy::python
