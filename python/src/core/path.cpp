#include "core/path.h"

#include <vector>

namespace understudy::python {
namespace {

std::string part(const Path& path) {
  if (path.key == nullptr) return fmt::to_string(path.index);
  if (PyUnicode_Check(path.key)) return text_of(path.key);
  const auto text = nb::steal(PyObject_Repr(path.key));
  if (text.is_valid()) return text_of(text);
  PyErr_Clear();
  return "?";
}

}  // namespace

std::string Path::str() const {
  std::vector<const Path*> steps;
  for (const auto* p = this; p->parent != nullptr; p = p->parent) {
    if (p->key != nullptr || p->index >= 0) steps.push_back(p);
  }
  std::string text;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    if (!text.empty()) text += '.';
    text += part(**step);
  }
  return text;
}

std::string Path::place() const {
  const auto text = str();
  return text.empty() ? "at the top of the state" : fmt::format("at '{}'", text);
}

}  // namespace understudy::python
