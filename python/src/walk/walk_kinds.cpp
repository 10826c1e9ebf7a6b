// The closed list of kinds beyond plain containers.
#include <array>

#include "core/errors.h"
#include "frameworks/types.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

using Kind = Value::Kind;

// Longer ints are kept as bytes: decimal digits take time by the square, and Python
// reads no more than 4,300 of them. A digit has more than three bits.
constexpr std::size_t kMaxPrintedBits = 4300 * 3;

nb::object call_with_note(const char* what, nb::handle object, const Path& path, auto&& call) {
  try {
    return call();
  } catch (nb::python_error& error) {
    add_note(error, fmt::format("raised by {} of the {} {}", what, name_of_type(object.type()),
                                path.place()));
    throw;
  }
}

}  // namespace

Value Walker::big_integer(PyObject* o) {
  int overflow = 0;
  const long long small = PyLong_AsLongLongAndOverflow(o, &overflow);
  if (overflow == 0) {
    throw_if(small == -1 && PyErr_Occurred() != nullptr);
    return Value(static_cast<std::int64_t>(small));
  }
  const nb::handle number(o);
  const auto bits = nb::cast<std::size_t>(number.attr("bit_length")());
  if (bits <= kMaxPrintedBits) return Value(text_of(nb::str(number))).with_kind(Kind::big_integer);
  const nb::object bytes =
      number.attr("to_bytes")(bits / 8 + 1, "little", nb::arg("signed") = true);
  char* data = nullptr;
  Py_ssize_t length = 0;
  throw_if(PyBytes_AsStringAndSize(bytes.ptr(), &data, &length) != 0);
  return Value::bytes({data, static_cast<std::size_t>(length)}).with_kind(Kind::long_integer);
}

Value Walker::text(PyObject* o) {
  Py_ssize_t length = 0;
  if (const char* utf8 = PyUnicode_AsUTF8AndSize(o, &length)) {
    return Value(std::string(utf8, static_cast<std::size_t>(length)));
  }
  throw_if(PyErr_ExceptionMatches(PyExc_UnicodeEncodeError) == 0);
  PyErr_Clear();
  const auto encoded = steal_or_throw(PyUnicode_AsEncodedString(o, "utf-8", "surrogatepass"));
  char* data = nullptr;
  throw_if(PyBytes_AsStringAndSize(encoded.ptr(), &data, &length) != 0);
  return Value::bytes({data, static_cast<std::size_t>(length)}).with_kind(Kind::surrogate_text);
}

Value Walker::ordered_dict(PyObject* o, const Path& path) {
  auto pairs = ordered_pairs(o, path);
  const auto attributes = nb::getattr(o, "__dict__", nb::none());
  if (!PyDict_CheckExact(attributes.ptr()) || PyDict_Size(attributes.ptr()) == 0) {
    return pairs.with_kind(Kind::ordered_dict);
  }
  return pairs.with_kind(Kind::ordered_dict, plain(attributes.ptr(), path));
}

Value Walker::default_dict(PyObject* o, const Path& path) {
  const nb::object factory = nb::handle(o).attr("default_factory");
  if (factory.is_none()) return dict(o, path).with_kind(Kind::default_dict);
  const char* name = factory_name(factory);
  if (name == nullptr) return opaque(o, path);
  return dict(o, path).with_kind(Kind::default_dict, Value(name));
}

Value Walker::deque(PyObject* o, const Path& path) {
  const nb::object maxlen = nb::handle(o).attr("maxlen");
  auto items = iterable(o, path);
  return items.with_kind(Kind::deque, maxlen.is_none() ? Value() : big_integer(maxlen.ptr()));
}

Value Walker::fields(PyObject* o, const char* const* names, std::size_t count, const Path& path) {
  const Path here = below(o, path);
  Value::Items items;
  for (std::size_t i = 0; i < count; ++i) {
    const nb::object field = nb::handle(o).attr(names[i]);
    items.push_back(
        plain(field.ptr(), {&here, nullptr, static_cast<Py_ssize_t>(i), nullptr, path.depth + 1}));
  }
  return Value::tuple(std::move(items));
}

Value Walker::range(PyObject* o, const Path& path) {
  static constexpr const char* kNames[] = {"start", "stop", "step"};
  const auto bounds = fields(o, kNames, 3, path);
  for (const auto& bound : bounds.items()) {
    if (bound.type() != Value::Type::integer) return opaque(o, path);  // beyond 64 bits
  }
  return bounds.with_kind(Kind::range);
}

// Only what collections.namedtuple made: a class below it may be anything.
Value Walker::named_tuple(PyObject* o, const Path& path) {
  const nb::handle type = nb::handle(o).type();
  const auto names = nb::getattr(type, "_fields", nb::none());
  if (!type.attr("__base__").is(nb::handle(&PyTuple_Type)) || !PyTuple_Check(names.ptr()) ||
      PyTuple_Size(names.ptr()) != PyTuple_Size(o)) {
    return opaque(o, path);
  }
  Value::Items description;
  description.push_back(Value(text_of(nb::str(type.attr("__name__")))));
  for (const nb::handle name : names) {
    if (!PyUnicode_Check(name.ptr())) return opaque(o, path);
    description.push_back(Value(text_of(name)));
  }
  return tuple(o, path).with_kind(Kind::named_tuple, Value::tuple(std::move(description)));
}

Value Walker::path_object(PyObject* o, const Path& path) {
  auto value = text(nb::str(nb::handle(o)).ptr());
  if (value.type() != Value::Type::text) return opaque(o, path);  // a file name that is not UTF-8
  return value.with_kind(Kind::path,
                         Value(text_of(nb::str(nb::handle(o).type().attr("__name__")))));
}

Value Walker::numpy_scalar(PyObject* o, const Path& path) {
  const nb::handle scalar(o);
  const nb::object dtype = scalar.attr("dtype");
  const auto type = text_of(nb::str(dtype.attr("char")));
  // Records, objects, and long doubles, which have padding and differ by machine.
  if (type == "V" || type == "O" || type == "g" || type == "G") return typed_or_opaque(o, path);
  const nb::object little = dtype.attr("newbyteorder")("<");
  const nb::object array = numpy_->module.attr("asarray")(scalar, nb::arg("dtype") = little);
  const nb::object bytes = array.attr("tobytes")();
  char* data = nullptr;
  Py_ssize_t length = 0;
  throw_if(PyBytes_AsStringAndSize(bytes.ptr(), &data, &length) != 0);
  return Value::bytes({data, static_cast<std::size_t>(length)})
      .with_kind(Kind::numpy_scalar, Value(text_of(nb::str(array.attr("dtype").attr("str")))));
}

Value Walker::numpy_dtype(PyObject* o, const Path& path) {
  const nb::handle dtype(o);
  // Records and foreign types say "V"; metadata would be lost.
  if (text_of(nb::str(dtype.attr("kind"))) == "V" || !dtype.attr("metadata").is_none())
    return typed_or_opaque(o, path);
  return Value(text_of(nb::str(dtype.attr("str")))).with_kind(Kind::numpy_dtype);
}

Value Walker::opaque(PyObject* o, const Path& path) {
  const nb::handle object(o);
  if (is_plain_) refuse_plain(o, path);
  Opaque leaf;
  leaf.type_name = name_of_type(object.type());
  if (options_.purpose == Purpose::target) return Value(std::move(leaf));
  if (options_.purpose == Purpose::memory) {
    if (!memo_.is_valid()) {
      memo_ = nb::dict();
      deepcopy_ = standard_type("copy", "deepcopy");
    }
    auto copy =
        call_with_note("copy.deepcopy", object, path, [&] { return deepcopy_(object, memo_); });
    leaf.object = {copies_, copies_->add(std::move(copy))};
    return Value(std::move(leaf));
  }
  if (!options_.allow_pickle) {
    fail(ErrorCode::unsupported,
         "the object {} is of type {}, which Understudy does not look into; take it out of the "
         "state, make it a dataclass, give it state_dict() and load_state_dict(), or pass "
         "allow_pickle=True",
         path.place(), leaf.type_name);
  }
  // Protocol 4 is read by every Python that we support and needs no buffers.
  const auto pickle = call_with_note("pickle.dumps", object, path, [&] {
    return standard_type("pickle", "dumps")(object, nb::arg("protocol") = 4);
  });
  char* data = nullptr;
  Py_ssize_t length = 0;
  throw_if(PyBytes_AsStringAndSize(pickle.ptr(), &data, &length) != 0);
  leaf.pickle = std::make_shared<const std::string>(data, static_cast<std::size_t>(length));
  return Value(std::move(leaf));
}

}  // namespace understudy::python
