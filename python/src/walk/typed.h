// Objects whose type has a name in the closed list of typed values, taken apart by the tables of
// understudy._typed.
#pragma once

#include <optional>

#include "core/common.h"

namespace understudy::python {

struct TypedParts {
  nb::object extra;          ///< tuple of str: the name; for a class its module and name, too
  nb::object fields;         ///< dict of str; a memoryview in it is a dense part
  bool is_in_place = false;  ///< it can take another's value without being replaced
  bool is_value = false;     ///< immutable, and may be the key of a dict
  bool is_class() const { return PyTuple_Size(extra.ptr()) > 1; }
};

/// Nothing for an object of another type, and for one that cannot be told whole.
std::optional<TypedParts> take_typed(PyObject* o);

/// A function of understudy._typed.
nb::object typed_function(const char* name);

/// The name of those whose parts are tensors in all cases.
inline constexpr const char* kTensorSubclass = "tensor_subclass";

}  // namespace understudy::python
