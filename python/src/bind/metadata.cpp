// Metadata of a step: Python's values that JSON can say, and numbers of any library.
#include <cmath>

#include "bind/options.h"

namespace understudy::python {
namespace {

// Deeper is a ring, or no metadata.
constexpr int kMaxMetadataDepth = 200;

constexpr const char* kTaken =
    "metadata takes None, bool, int, float and str, NumPy's and torch's numbers, and lists, tuples "
    "and dicts of these";

class Converter {
 public:
  Value convert(nb::handle value, const std::string& path, int depth) {
    if (depth > kMaxMetadataDepth) {
      fail(ErrorCode::invalid, "metadata is nested deeper than {} at {}", kMaxMetadataDepth,
           path.substr(0, 80));
    }
    PyObject* const object = value.ptr();
    if (value.is_none()) return {};
    if (PyBool_Check(object)) return object == Py_True;
    if (PyLong_Check(object)) return integer(value, path);
    if (PyFloat_Check(object)) return PyFloat_AsDouble(object);
    if (PyUnicode_Check(object)) return text_of(value);
    if (PyDict_Check(object)) return dict(value, path, depth);
    if (PyList_Check(object) || PyTuple_Check(object)) {
      Value::Items items;
      std::size_t index = 0;
      for (const nb::handle item : value) {
        items.push_back(convert(item, fmt::format("{}[{}]", path, index++), depth + 1));
      }
      return Value::list(std::move(items));
    }
    return number(value, path);
  }

 private:
  static Value integer(nb::handle value, const std::string& path) {
    int overflow = 0;
    const auto number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0) {
      fail(ErrorCode::invalid, "{} is an int that does not fit 64 bits; str() makes text of it",
           path);
    }
    return static_cast<std::int64_t>(number);
  }

  Value dict(nb::handle value, const std::string& path, int depth) {
    Value::Pairs pairs;
    for (auto [key, child] : nb::borrow<nb::dict>(value)) {
      if (!PyUnicode_Check(key.ptr())) {
        fail(ErrorCode::invalid, "{} has the key {} of type {}, and keys must be str", path,
             text_of(nb::repr(key)), name_of_type(key.type()));
      }
      auto at = fmt::format("{}[{}]", path, text_of(nb::repr(key)));
      pairs.emplace_back(text_of(key), convert(child, at, depth + 1));
    }
    return Value::dict(std::move(pairs));
  }

  /// A scalar of NumPy's, or an array or tensor without dimensions: one number.
  static Value number(nb::handle value, const std::string& path) {
    const nb::object shape = nb::getattr(value, "shape", nb::none());
    const bool has_shape = PyTuple_Check(shape.ptr());
    if (has_shape && nb::len(shape) == 0 && nb::hasattr(value, "item")) {
      const nb::object item = value.attr("item")();
      if (PyBool_Check(item.ptr())) return item.ptr() == Py_True;
      if (PyLong_Check(item.ptr())) return integer(item, path);
      if (PyFloat_Check(item.ptr())) return PyFloat_AsDouble(item.ptr());
    }
    fail(ErrorCode::invalid, "{} is a {}{}; {}", path, name_of_type(value.type()),
         has_shape && nb::len(shape) > 0
             ? fmt::format(" of shape {}", text_of(nb::repr(nb::tuple(shape))))
             : std::string(),
         kTaken);
  }
};

}  // namespace

Value metadata_of(nb::handle metadata) {
  if (metadata.is_none()) return {};
  if (!PyDict_Check(metadata.ptr())) {
    fail(ErrorCode::invalid, "metadata is a {}, and must be a dict", name_of_type(metadata.type()));
  }
  return Converter().convert(metadata, "metadata", 0);
}

}  // namespace understudy::python
