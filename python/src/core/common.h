// What every file of the binding needs.
#pragma once

#include <fmt/format.h>
#include <nanobind/nanobind.h>

#include <string>
#include <string_view>
#include <utility>

#include "understudy/error.h"

namespace understudy::python {

namespace nb = nanobind;

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// A new reference, or the pending Python error as a C++ exception.
inline nb::object steal_or_throw(PyObject* o) {
  if (o == nullptr) throw nb::python_error();
  return nb::steal(o);
}

inline void throw_if(bool has_failed) {
  if (has_failed) throw nb::python_error();
}

/// A name for PyObject_GetAttr, made once. For static variables.
inline PyObject* interned(const char* name) {
  auto* made = PyUnicode_InternFromString(name);
  throw_if(made == nullptr);
  return made;
}

inline nb::object get_attribute(PyObject* o, PyObject* name) {
  return steal_or_throw(PyObject_GetAttr(o, name));
}

/// Calls a method of a type, without looking it up.
inline nb::object call_method(nb::handle method, PyObject* self) {
  return steal_or_throw(PyObject_CallFunctionObjArgs(method.ptr(), self, nullptr));
}

/// UTF-8 of a str; of one with lone surrogates, with those replaced.
std::string text_of(nb::handle str);
/// A str of text that may hold the bytes of a file's name.
nb::object str_of(std::string_view text);
/// "package.module.Type" of a type.
std::string name_of_type(nb::handle type);

}  // namespace understudy::python
