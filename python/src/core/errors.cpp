#include "core/errors.h"

#include <nanobind/stl/string.h>

namespace understudy::python {
namespace {

PyObject* error_class = nullptr;

nb::object make_error(const Error& error) {
  // Messages may name files whose names are not UTF-8.
  const std::string_view message = error.what();
  auto text = steal_or_throw(PyUnicode_DecodeUTF8(
      message.data(), static_cast<Py_ssize_t>(message.size()), "surrogateescape"));
  nb::object made = nb::handle(error_class)(text);
  const auto code = to_string(error.code());
  made.attr("code") = nb::str(code.data(), code.size());
  return made;
}

void translate(const std::exception_ptr& failure, void*) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    const auto made = make_error(error);
    PyErr_SetObject(error_class, made.ptr());
  }
}

}  // namespace

std::string text_of(nb::handle str) {
  Py_ssize_t length = 0;
  if (const char* utf8 = PyUnicode_AsUTF8AndSize(str.ptr(), &length)) {
    return {utf8, static_cast<std::size_t>(length)};
  }
  PyErr_Clear();
  const auto bytes = steal_or_throw(PyUnicode_AsEncodedString(str.ptr(), "utf-8", "replace"));
  char* data = nullptr;
  throw_if(PyBytes_AsStringAndSize(bytes.ptr(), &data, &length) != 0);
  return {data, static_cast<std::size_t>(length)};
}

std::string name_of_type(nb::handle type) {
  const auto name = text_of(nb::str(type.attr("__qualname__")));
  const auto module = text_of(nb::str(type.attr("__module__")));
  return module == "builtins" ? name : module + "." + name;
}

nb::handle error_type() {
  return error_class;
}

nb::object exception_of(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return make_error(error);
  } catch (const nb::python_error& error) {
    return nb::borrow(error.value());
  } catch (const std::bad_alloc&) {
    return nb::borrow(PyExc_MemoryError)();
  } catch (const std::exception& error) {
    return nb::borrow(PyExc_RuntimeError)(error.what());
  }
}

void add_note(nb::python_error& error, const std::string& note) {
  const auto value = error.value();
  if (!nb::hasattr(value, "add_note")) return;
  try {
    value.attr("add_note")(note);
  } catch (nb::python_error&) {
    // The note is a courtesy; the error itself must get through.
  }
}

void bind_errors(nb::module_& m) {
  nb::dict attributes;
  attributes["code"] = "invalid";
  error_class = PyErr_NewExceptionWithDoc("understudy.Error",
                                          R"(What every failure of Understudy raises.

The message is one sentence: what failed, where (file, offset, path in the state) and why. Its
``code`` is one of

- ``invalid``: the argument or the call makes no sense, or the state does not fit
- ``unsupported``: this build, machine or format version cannot do it
- ``not_found``: there is no such step, file or name
- ``corrupt``: the bytes are not what was written
- ``io``: the operating system refused or failed
- ``no_space``: disk, memory or shared memory is short
- ``busy``: another process, or an earlier call, holds it
- ``timeout``: the time given ran out
- ``closed``: the handle was closed, or belongs to another process)",
                                          nullptr, attributes.ptr());
  throw_if(error_class == nullptr);
  m.attr("Error") = nb::handle(error_class);
  nb::register_exception_translator(translate);
}

}  // namespace understudy::python
