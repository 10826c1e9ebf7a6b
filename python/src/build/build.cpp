#include "build/build.h"

#include <map>
#include <utility>

#include "core/errors.h"
#include "core/refs.h"
#include "frameworks/types.h"

namespace understudy::python {
namespace {

using Kind = Value::Kind;
using Type = Value::Type;

nb::object utf8(const std::string& text) {
  return steal_or_throw(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr));
}

nb::object make_bytes(const std::string& bytes) {
  return steal_or_throw(
      PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
}

nb::object big_integer(const std::string& digits) {
  // Python's own limit: parsing takes time by the square. Longer ones are written as bytes.
  constexpr std::size_t kMaxDigits = 4300;
  const auto count = digits.size() - (digits.starts_with('-') ? 1 : 0);
  if (count > kMaxDigits) {
    fail(ErrorCode::unsupported, "an integer of {} decimal digits; {} are the most that are read",
         count, kMaxDigits);
  }
  return steal_or_throw(PyLong_FromString(digits.c_str(), nullptr, 10));
}

nb::object long_integer(const std::string& bytes) {
  const nb::handle integer(reinterpret_cast<PyObject*>(&PyLong_Type));
  return integer.attr("from_bytes")(make_bytes(bytes), "little", nb::arg("signed") = true);
}

nb::object numpy_dtype(const Numpy& numpy, const std::string& name) {
  // A plain type only ("<f4", "|S3", "<M8[ns]"): NumPy parses whole languages.
  const bool has_order =
      name.size() >= 2 && std::string_view("<>|=").find(name[0]) != std::string_view::npos;
  const bool is_plain = has_order &&
                        std::string_view("biufcmMSUO").find(name[1]) != std::string_view::npos &&
                        name.find_first_of(",(){}' ") == std::string::npos;
  if (!is_plain) fail(ErrorCode::corrupt, "'{}' is no NumPy type that Understudy writes", name);
  return numpy.dtype(utf8(name));
}

const Numpy& need_numpy(const char* what) {
  const auto* numpy = numpy_or_import();
  if (numpy == nullptr)
    fail(ErrorCode::unsupported, "the state has {}, and NumPy is not installed", what);
  return *numpy;
}

// A class is made for each, in a third of a millisecond.
constexpr std::size_t kMaxNamedTuples = 1000;

// Python looks at all keys of one hash for each further one. The hashes of numbers
// are known to everybody, so a file may have as many of the same as it likes.
class HashGuard {
 public:
  void add(nb::handle key) {
    // Text and bytes are hashed with a secret.
    if (PyUnicode_CheckExact(key.ptr()) || PyBytes_CheckExact(key.ptr())) return;
    const auto hash = PyObject_Hash(key.ptr());
    throw_if(hash == -1);
    if (++counts_[hash] <= kMost) return;
    fail(ErrorCode::unsupported, "more than {} keys of a dict or members of a set have one hash",
         kMost);
  }

 private:
  // Chance gives two or three; the hash of every NaN was 0 before Python 3.10.
  static constexpr std::uint32_t kMost = 100;
  std::map<Py_hash_t, std::uint32_t> counts_;
};

}  // namespace

nb::object Builder::build(const Value& value) {
  return guard([&] { return node(value); });
}

// " at 'optimizer.state'", and forgets it.
std::string Builder::place() {
  std::string text;
  for (auto key = trail_.rbegin(); key != trail_.rend(); ++key) {
    if (!text.empty()) text += '.';
    if (key->type() == Type::text) {
      text += key->as_text();
    } else {
      text += key->type() == Type::integer ? fmt::to_string(key->as_integer()) : "?";
    }
  }
  trail_.clear();
  return text.empty() ? text : " at '" + text + "'";
}

// What a file says and Python refuses (unhashable keys, bad field names, a device that this
// torch lacks) is an Error like any other. Interrupts are not.
void Builder::rethrow(std::exception_ptr failure) {
  const auto where = place();
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    if (where.empty()) throw;
    fail(error.code(), "{}{}", error.what(), where);
  } catch (nb::python_error& error) {
    if (std::exchange(has_user_code_failed_, false) || !error.matches(PyExc_Exception)) throw;
    if (error.matches(PyExc_MemoryError)) {
      fail(ErrorCode::no_space, "there is no memory for the value{}", where);
    }
    // Torch says RuntimeError of what a torch may lack: a device, a feature.
    const bool is_lacking = error.matches(PyExc_RuntimeError) || error.matches(PyExc_ImportError);
    fail(is_lacking ? ErrorCode::unsupported : ErrorCode::corrupt,
         "the value{} cannot be built: {}", where, text_of(nb::str(error.value())));
  }
}

nb::object Builder::node(const Value& value) {
  switch (value.type()) {
    case Type::none: return nb::borrow(value.kind() == Kind::ellipsis ? Py_Ellipsis : Py_None);
    case Type::boolean: return nb::bool_(value.as_boolean());
    case Type::integer: return steal_or_throw(PyLong_FromLongLong(value.as_integer()));
    case Type::floating: return steal_or_throw(PyFloat_FromDouble(value.as_floating()));
    case Type::complex: {
      const auto z = value.as_complex();
      return steal_or_throw(PyComplex_FromDoubles(z.real(), z.imag()));
    }
    case Type::text: return text(value);
    case Type::bytes: return bytes(value);
    case Type::list: return value.kind() == Kind::plain ? list(value) : kind_of_list(value);
    case Type::tuple: return value.kind() == Kind::plain ? tuple(value) : kind_of_tuple(value);
    case Type::dict:
      if (value.kind() == Kind::typed) return typed(value);
      return value.kind() == Kind::plain ? dict(value) : kind_of_dict(value);
    case Type::tensor: return tensor(value);
    case Type::opaque: return opaque(value.as_opaque());
  }
  return nb::none();
}

nb::object Builder::list(const Value& value) {
  const auto children = value.items();
  auto list = steal_or_throw(PyList_New(static_cast<Py_ssize_t>(children.size())));
  Py_ssize_t i = 0;
  for (const auto& child : children) {
    auto made = at(Value(static_cast<std::int64_t>(i)), [&] { return node(child); });
    throw_if(PyList_SetItem(list.ptr(), i++, made.release().ptr()) != 0);
  }
  return list;
}

nb::object Builder::tuple(const Value& value) {
  const auto children = value.items();
  auto tuple = steal_or_throw(PyTuple_New(static_cast<Py_ssize_t>(children.size())));
  Py_ssize_t i = 0;
  for (const auto& child : children) {
    auto made = at(Value(static_cast<std::int64_t>(i)), [&] { return node(child); });
    throw_if(PyTuple_SetItem(tuple.ptr(), i++, made.release().ptr()) != 0);
  }
  return tuple;
}

nb::object Builder::dict(const Value& value) {
  auto dict = steal_or_throw(PyDict_New());
  HashGuard guard;
  for (const auto& [key, child] : value.pairs()) {
    const auto key_object = node(key);
    guard.add(key_object);
    const auto child_object = at(key, [&] { return node(child); });
    throw_if(PyDict_SetItem(dict.ptr(), key_object.ptr(), child_object.ptr()) != 0);
  }
  return dict;
}

nb::object Builder::kind_of_list(const Value& value) {
  const auto items = list(value);
  if (value.kind() == Kind::set || value.kind() == Kind::frozen_set) {
    HashGuard guard;
    for (const auto item : nb::borrow<nb::list>(items)) guard.add(item);
  }
  switch (value.kind()) {
    case Kind::deque: {
      const auto maxlen = node(value.extra());
      return standard_type("collections", "deque")(items, maxlen);
    }
    case Kind::set: return steal_or_throw(PySet_New(items.ptr()));
    case Kind::frozen_set: return steal_or_throw(PyFrozenSet_New(items.ptr()));
    default: return items;
  }
}

nb::object Builder::kind_of_tuple(const Value& value) {
  const auto items = tuple(value);
  switch (value.kind()) {
    case Kind::torch_size: {
      const auto* torch = torch_or_import();
      return torch == nullptr ? items : torch->size(items);
    }
    case Kind::slice: return standard_type("builtins", "slice")(*nb::borrow<nb::tuple>(items));
    case Kind::range: return standard_type("builtins", "range")(*nb::borrow<nb::tuple>(items));
    case Kind::named_tuple: {
      std::string key;
      for (const auto& name : value.extra().items()) key += name.as_text() + ",";
      auto& type = named_tuples_[key];
      if (!type.is_valid()) {
        if (named_tuples_.size() > kMaxNamedTuples) {
          fail(ErrorCode::unsupported, "the state has more than {} types of named tuples",
               kMaxNamedTuples);
        }
        const auto names = nb::borrow<nb::tuple>(tuple(value.extra()));
        const auto fields = steal_or_throw(PyTuple_GetSlice(names.ptr(), 1, PY_SSIZE_T_MAX));
        type = standard_type("collections", "namedtuple")(names[0], fields);
      }
      return type.attr("_make")(items);
    }
    default: return items;
  }
}

nb::object Builder::kind_of_dict(const Value& value) {
  const auto items = nb::borrow<nb::dict>(dict(value));
  switch (value.kind()) {
    case Kind::ordered_dict: {
      auto ordered = standard_type("collections", "OrderedDict")(items);
      if (value.extra().type() == Type::dict) {
        for (const auto& [name, attribute] : value.extra().pairs()) {
          throw_if(PyObject_SetAttr(ordered.ptr(), node(name).ptr(), node(attribute).ptr()) != 0);
        }
      }
      return ordered;
    }
    case Kind::default_dict: {
      nb::object factory = nb::none();
      if (value.extra().type() == Type::text) {
        factory = factory_of(value.extra().as_text());
        if (!factory.is_valid()) {
          fail(ErrorCode::corrupt, "'{}' is no factory that a defaultdict may have here",
               value.extra().as_text());
        }
      }
      return standard_type("collections", "defaultdict")(factory, items);
    }
    case Kind::counter: return standard_type("collections", "Counter")(items);
    case Kind::simple_namespace: return standard_type("types", "SimpleNamespace")(**items);
    case Kind::argparse_namespace: return standard_type("argparse", "Namespace")(**items);
    default: return items;
  }
}

nb::object Builder::text(const Value& value) {
  const auto& text = value.as_text();
  switch (value.kind()) {
    case Kind::big_integer: return big_integer(text);
    case Kind::torch_dtype: {
      const auto* torch = torch_or_import();
      if (torch == nullptr) return utf8("torch." + text);
      const auto found = torch->dtype_names.find(text);
      if (found == torch->dtype_names.end()) {
        fail(ErrorCode::unsupported, "the installed torch has no dtype '{}'", text);
      }
      return nb::borrow(found->second);
    }
    case Kind::torch_device: {
      const auto* torch = torch_or_import();
      return torch == nullptr ? utf8(text) : torch->device(utf8(text));
    }
    case Kind::numpy_dtype: return numpy_dtype(need_numpy("a NumPy dtype"), text);
    case Kind::path: {
      const auto& name = value.extra().type() == Type::text ? value.extra().as_text() : text;
      for (const char* known : {"PosixPath", "PurePosixPath", "PureWindowsPath"}) {
        if (name == known) return standard_type("pathlib", known)(utf8(text));
      }
      fail(ErrorCode::corrupt, "'{}' is no class of paths", name);
    }
    default: return utf8(text);
  }
}

nb::object Builder::bytes(const Value& value) {
  const auto& bytes = value.as_bytes();
  switch (value.kind()) {
    case Kind::byte_array:
      return steal_or_throw(
          PyByteArray_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size())));
    case Kind::long_integer: return long_integer(bytes);
    case Kind::surrogate_text:
      return steal_or_throw(PyUnicode_DecodeUTF8(
          bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogatepass"));
    case Kind::numpy_scalar: {
      const auto& numpy = need_numpy("a NumPy scalar");
      const auto dtype = numpy_dtype(numpy, value.extra().as_text());
      if (bytes.empty()) return dtype.attr("type")();  // "" and b"": NumPy reads no empty buffers
      const nb::object array = numpy.module.attr("frombuffer")(make_bytes(bytes), dtype);
      if (nb::len(array) != 1) {
        fail(ErrorCode::corrupt, "a NumPy scalar of type {} has {} bytes", value.extra().as_text(),
             bytes.size());
      }
      return array[0];
    }
    default: return make_bytes(bytes);
  }
}

nb::object Builder::opaque(const Opaque& leaf) {
  if (leaf.object) {
    // A copy again: the snapshot must stay what it was.
    if (!memo_.is_valid()) memo_ = nb::dict();
    try {
      return standard_type("copy", "deepcopy")(
          nb::handle(static_cast<PyObject*>(leaf.object.get())), memo_);
    } catch (nb::python_error&) {
      has_user_code_failed_ = true;
      throw;
    }
  }
  if (!leaf.pickle || !options_.allow_pickle) {
    fail(ErrorCode::unsupported,
         "the state has a pickled object of type {}; pass allow_pickle=True to load it, if you "
         "trust "
         "whoever wrote it",
         leaf.type_name);
  }
  try {
    return standard_type("pickle", "loads")(make_bytes(*leaf.pickle));
  } catch (nb::python_error&) {
    has_user_code_failed_ = true;  // somebody else's code, and for them to tell
    throw;
  }
}

}  // namespace understudy::python
