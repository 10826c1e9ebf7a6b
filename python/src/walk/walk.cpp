#include "walk/walk.h"

#include "core/errors.h"
#include "frameworks/types.h"

namespace understudy::python {
namespace {

[[noreturn]] void fail_changed(const char* what, const Path& path) {
  fail(ErrorCode::invalid, "the {} {} changed its size while it was walked", what, path.place());
}

Value named(Value value, Value::Kind kind) {
  return value.with_kind(kind);
}

}  // namespace

Walker::Walker(WalkOptions options)
    : options_(options),
      dtensor_(dtensor_type()),
      sources_(std::make_shared<Refs>()),
      copies_(std::make_shared<Refs>()) {
  refresh_types();
  torch_ = torch_if_loaded();
  numpy_ = numpy_if_loaded();
}

Value Walker::walk(nb::handle state) {
  auto value = node(state.ptr(), Path{});
  require_all_there(value);
  return value;
}

Value Walker::node(PyObject* o, const Path& path) {
  if (record_ == nullptr) return any_node(o, path);
  const auto step = record_->begin(o, is_plain_);
  auto value = any_node(o, path);
  record_->end(step, o, value);
  return value;
}

Value Walker::any_node(PyObject* o, const Path& path) {
  using Kind = Value::Kind;
  switch (rule_of(Py_TYPE(o))) {
    case Rule::none: return {};
    case Rule::boolean: return Value(o == Py_True);
    case Rule::integer: return big_integer(o);
    case Rule::floating: return Value(PyFloat_AsDouble(o));
    case Rule::complex:
      return Value(std::complex<double>(PyComplex_RealAsDouble(o), PyComplex_ImagAsDouble(o)));
    case Rule::text: return text(o);
    case Rule::bytes: {
      char* data = nullptr;
      Py_ssize_t length = 0;
      throw_if(PyBytes_AsStringAndSize(o, &data, &length) != 0);
      return Value::bytes({data, static_cast<std::size_t>(length)});
    }
    case Rule::byte_array:
      return named(
          Value::bytes({PyByteArray_AsString(o), static_cast<std::size_t>(PyByteArray_Size(o))}),
          Kind::byte_array);
    case Rule::list: return list(o, path);
    case Rule::tuple: return tuple(o, path);
    case Rule::dict: return dict(o, path);
    case Rule::ordered_dict: return ordered_dict(o, path);
    case Rule::default_dict: return default_dict(o, path);
    case Rule::counter: return named(dict(o, path), Kind::counter);
    case Rule::deque: return deque(o, path);
    case Rule::set: return named(members(o, path), Kind::set);
    case Rule::frozen_set: return named(members(o, path), Kind::frozen_set);
    case Rule::simple_namespace:
      return named(dict(nb::object(nb::handle(o).attr("__dict__")).ptr(), path),
                   Kind::simple_namespace);
    case Rule::argparse_namespace:
      return named(dict(nb::object(nb::handle(o).attr("__dict__")).ptr(), path),
                   Kind::argparse_namespace);
    case Rule::slice: {
      static constexpr const char* kNames[] = {"start", "stop", "step"};
      return named(fields(o, kNames, 3, path), Kind::slice);
    }
    case Rule::range: return range(o, path);
    case Rule::ellipsis: return named(Value(), Kind::ellipsis);
    case Rule::path: return path_object(o, path);
    case Rule::torch_size: return named(tuple(o, path), Kind::torch_size);
    case Rule::torch_dtype: {
      const auto name = text_of(nb::str(nb::handle(o)));
      return named(Value(name.substr(name.find('.') + 1)), Kind::torch_dtype);
    }
    case Rule::torch_device:
      return named(Value(text_of(nb::str(nb::handle(o)))), Kind::torch_device);
    default: return object_node(o, path);
  }
}

// A file's keys and attributes carry no tensors, no objects.
Value Walker::object_node(PyObject* o, const Path& path) {
  if (is_plain_) return plain_node(o, path);
  switch (rule_of(Py_TYPE(o))) {
    case Rule::torch_tensor: return torch_tensor(o, path);
    case Rule::torch_parameter: return torch_parameter(o, path);
    case Rule::numpy_array: return numpy_array(o, path);
    default: return slow_node(o, path);
  }
}

Value Walker::plain_node(PyObject* o, const Path& path) {
  if (numpy_ != nullptr && nb::isinstance(o, numpy_->generic)) return numpy_scalar(o, path);
  if (numpy_ != nullptr && nb::isinstance(o, numpy_->dtype)) return numpy_dtype(o, path);
  if (auto value = typed(o, path)) return std::move(*value);
  if (PyTuple_Check(o)) return named_tuple(o, path);
  refuse_plain(o, path);
}

void Walker::refuse_plain(PyObject* o, const Path& path) const {
  fail(
      ErrorCode::unsupported,
      "a dict key or an attribute of a dict {} is of type {}; only scalars and plain containers of "
      "them are kept there",
      path.place(), name_of_type(nb::handle(o).type()));
}

bool has_state(nb::handle object) {
  return nb::hasattr(object, "state_dict") && nb::hasattr(object, "load_state_dict");
}

nb::object ask_for_state(PyObject* o, const Path& path) {
  try {
    return nb::handle(o).attr("state_dict")();
  } catch (nb::python_error& error) {
    add_note(error, fmt::format("raised by state_dict() of the {} {}",
                                name_of_type(nb::handle(o).type()), path.place()));
    throw;
  }
}

// Everything that the table of exact types does not know.
Value Walker::slow_node(PyObject* o, const Path& path) {
  const nb::handle object(o);
  const nb::handle type = object.type();
  if (torch_ != nullptr &&
      PyType_IsSubtype(Py_TYPE(o), reinterpret_cast<PyTypeObject*>(torch_->tensor.ptr()))) {
    return torch_subclass(o, path);
  }
  if (numpy_ != nullptr) {
    if (nb::isinstance(object, numpy_->generic)) return numpy_scalar(o, path);
    if (nb::isinstance(object, numpy_->dtype)) return numpy_dtype(o, path);
    if (nb::isinstance(object, numpy_->ndarray)) return typed_or_opaque(o, path);
  }
  if (PyType_Check(o)) return opaque(o, path);
  if (PyTuple_Check(o)) {
    auto value = typed(o, path);
    return value ? std::move(*value) : named_tuple(o, path);
  }
  if (has_state(object)) {
    return options_.purpose == Purpose::target
               ? Value(options_.loadable(object, path.str(), targets_))
               : state_of_object(o, path);
  }
  if (nb::hasattr(type, "__dlpack__") && nb::hasattr(type, "__dlpack_device__"))
    return dlpack_tensor(o, path);
  return typed_or_opaque(o, path);
}

Value Walker::state_of_object(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  if (record_ != nullptr) record_->set_has_state();
  auto state = answers_.take(o);
  if (!state.is_valid()) state = ask_for_state(o, path);
  doubtful_ = met_.size();
  return node(state.ptr(), {&here, nullptr, -1, nullptr, path.depth + 1});
}

// The same place one container deeper; refuses cycles and what is too deep.
Path Walker::below(PyObject* container, const Path& path) const {
  for (const auto* p = &path; p != nullptr; p = p->parent) {
    if (p->container == container) {
      fail(ErrorCode::invalid, "the state contains itself: the object {} is met again {}",
           p->place(), path.place());
    }
  }
  if (path.depth >= kMaxDepth) {
    fail(ErrorCode::invalid, "the state is nested deeper than {} containers {}", kMaxDepth,
         path.place());
  }
  Path here = path;
  here.container = container;
  return here;
}

Value Walker::list(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  const auto size = PyList_Size(o);
  Value::Items items;
  items.reserve(static_cast<std::size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (PyList_Size(o) != size) fail_changed("list", path);
    const auto item = nb::borrow(PyList_GetItem(o, i));
    items.push_back(node(item.ptr(), {&here, nullptr, i, nullptr, path.depth + 1}));
  }
  return Value::list(std::move(items));
}

Value Walker::tuple(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  const auto size = PyTuple_Size(o);
  Value::Items items;
  items.reserve(static_cast<std::size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) {
    items.push_back(node(PyTuple_GetItem(o, i), {&here, nullptr, i, nullptr, path.depth + 1}));
  }
  return Value::tuple(std::move(items));
}

Value Walker::iterable(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  Value::Items items;
  Py_ssize_t i = 0;
  for (const nb::handle item : nb::handle(o)) {
    items.push_back(node(item.ptr(), {&here, nullptr, i++, nullptr, path.depth + 1}));
  }
  return Value::list(std::move(items));
}

Value Walker::members(PyObject* o, const Path& path) {
  const bool was_in_set = std::exchange(is_in_set_, true);
  auto value = iterable(o, path);
  is_in_set_ = was_in_set;
  return value;
}

Value Walker::dict(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  const auto size = PyDict_Size(o);
  Value::Pairs pairs;
  pairs.reserve(static_cast<std::size_t>(size));
  PyObject *key_object = nullptr, *child = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(o, &position, &key_object, &child) != 0) {
    // A user's state_dict() may run below and replace what stands here.
    const auto held_key = nb::borrow(key_object), held_child = nb::borrow(child);
    const Path place{&here, key_object, -1, nullptr, path.depth + 1};
    auto key_value = key(key_object, place);
    pairs.emplace_back(std::move(key_value), node(child, place));
    if (PyDict_Size(o) != size) fail_changed("dict", path);
  }
  return Value::dict(std::move(pairs));
}

// An OrderedDict keeps its order beside the table of a dict.
Value Walker::ordered_pairs(PyObject* o, const Path& path) {
  const Path here = below(o, path);
  Value::Pairs pairs;
  pairs.reserve(static_cast<std::size_t>(PyDict_Size(o)));
  for (const nb::handle key_object : nb::handle(o)) {
    const auto child = nb::borrow(PyDict_GetItemWithError(o, key_object.ptr()));
    if (!child.is_valid()) fail_changed("OrderedDict", path);
    const Path place{&here, key_object.ptr(), -1, nullptr, path.depth + 1};
    auto key_value = key(key_object.ptr(), place);
    pairs.emplace_back(std::move(key_value), node(child.ptr(), place));
  }
  return Value::dict(std::move(pairs));
}

Value Walker::key(PyObject* o, const Path& path) {
  auto* const record = std::exchange(record_, nullptr);  // one step, whatever is in it
  if (record != nullptr) record->add_key(o);
  auto value = PyUnicode_CheckExact(o) ? text(o) : plain(o, path);
  record_ = record;
  return value;
}

Value Walker::plain(PyObject* o, const Path& path) {
  const bool was_plain = std::exchange(is_plain_, true);
  auto value = node(o, path);
  is_plain_ = was_plain;
  return value;
}

}  // namespace understudy::python
