#include "bind/rename.h"

#include "core/gil.h"

namespace understudy::python {
namespace {

std::string text_or_fail(nb::handle object, const char* what) {
  if (!PyUnicode_Check(object.ptr())) {
    fail(ErrorCode::invalid, "{} is {}, and must be a str", what, text_of(nb::repr(object)));
  }
  return text_of(object);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> prefixes_of(nb::handle rename) {
  std::vector<std::pair<std::string, std::string>> prefixes;
  if (!PyDict_Check(rename.ptr())) return prefixes;
  for (const auto [from, to] : nb::borrow<nb::dict>(rename)) {
    prefixes.emplace_back(text_or_fail(from, "a prefix of rename"),
                          text_or_fail(to, "what a prefix of rename becomes"));
  }
  return prefixes;
}

std::function<std::string(const std::string&)> renaming_by(nb::handle rename) {
  if (rename.is_none() || PyDict_Check(rename.ptr())) return {};
  if (PyCallable_Check(rename.ptr()) == 0) {
    fail(ErrorCode::invalid,
         "rename is {}, and must be a dict of prefixes or a function from path to path",
         text_of(nb::repr(rename)));
  }
  return [rename](const std::string& path) {
    WithGil gil;
    const auto argument = steal_or_throw(
        PyUnicode_DecodeUTF8(path.data(), static_cast<Py_ssize_t>(path.size()), "surrogateescape"));
    return text_or_fail(nb::object(rename(argument)), "what rename gives");
  };
}

}  // namespace understudy::python
