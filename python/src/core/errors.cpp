#include "core/errors.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <cerrno>

#include "understudy/system_error.h"
#include "understudy/text.h"

namespace understudy::python {
namespace {

PyObject* error_class = nullptr;

// The codes that are kinds of Python's own as well. All have the name of the base
// class: for its users there is one Error.
struct Kind {
  ErrorCode code;
  PyObject** base;
  int number;  ///< errno where the system gave none; 0: a kind without
  PyObject* type = nullptr;
};

Kind kinds[] = {{ErrorCode::invalid, &PyExc_ValueError, 0},
                {ErrorCode::not_found, &PyExc_FileNotFoundError, ENOENT},
                {ErrorCode::io, &PyExc_OSError, EIO},
                {ErrorCode::no_space, &PyExc_OSError, ENOSPC},
                {ErrorCode::timeout, &PyExc_TimeoutError, ETIMEDOUT}};

nb::object make_error(std::string_view code, const nb::object& text, int number) {
  nb::handle type = error_class;
  for (const auto& kind : kinds) {
    if (to_string(kind.code) != code) continue;
    type = kind.type;
    if (number == 0) number = kind.number;
  }
  nb::object made = type(text);
  made.attr("code") = nb::str(code.data(), code.size());
  if (PyErr_GivenExceptionMatches(made.ptr(), PyExc_OSError)) made.attr("errno") = number;
  return made;
}

nb::object make_error(const Error& error) {
  // Messages may name files whose names are not UTF-8.
  const auto text = str_of(error.what());
  const auto* system = dynamic_cast<const SystemError*>(&error);
  return make_error(to_string(error.code()), text, system != nullptr ? system->number() : 0);
}

void translate(const std::exception_ptr& failure, void*) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    const auto made = make_error(error);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
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

nb::object str_of(std::string_view text) {
  return steal_or_throw(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogateescape"));
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
    return nb::borrow(PyExc_RuntimeError)(printable(error.what()));
  }
}

void add_note(nb::python_error& error, const std::string& note) {
  const auto value = error.value();
  if (!nb::hasattr(value, "add_note")) return;
  try {
    value.attr("add_note")(printable(note));
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

- ``invalid``: the argument or the call makes no sense, or the state does not fit (also a
  ``ValueError``)
- ``unsupported``: this build, machine or format version cannot do it
- ``not_found``: there is no such step, file or name (also a ``FileNotFoundError``)
- ``corrupt``: the bytes are not what was written
- ``io``: the operating system refused or failed (also an ``OSError``, with ``errno``)
- ``no_space``: disk, memory or shared memory is short (also an ``OSError``, with ``errno``)
- ``busy``: another process, or an earlier call, holds it
- ``timeout``: the time given ran out (also a ``TimeoutError``)
- ``closed``: the handle was closed, or belongs to another process)",
                                          nullptr, attributes.ptr());
  throw_if(error_class == nullptr);
  m.attr("Error") = nb::handle(error_class);
  const auto reduce = nb::module_::import_("understudy._errors").attr("reduce");
  for (auto& kind : kinds) {
    const auto bases = nb::make_tuple(nb::handle(error_class), nb::handle(*kind.base));
    nb::dict own;
    const auto code = to_string(kind.code);
    own["code"] = nb::str(code.data(), code.size());
    own["__doc__"] = nb::handle(error_class).attr("__doc__");
    own["__reduce__"] = reduce;
    kind.type = PyErr_NewException("understudy.Error", bases.ptr(), own.ptr());
    throw_if(kind.type == nullptr);
  }
  m.def(
      "_error",
      [](const std::string& code, nb::handle text, std::optional<int> number) {
        return make_error(code, str_of(printable(text_of(nb::str(text)))), number.value_or(0));
      },
      nb::arg("code"), nb::arg("text"), nb::arg("errno") = nb::none());
  nb::register_exception_translator(translate);
}

}  // namespace understudy::python
