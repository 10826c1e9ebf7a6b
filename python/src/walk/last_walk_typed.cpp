// Typed values in the pass over a state: their fields are compared as any others.
#include "walk/last_walk_pass.h"
#include "walk/typed.h"

namespace understudy::python {

void LastWalk::set_typed(const nb::object& extra) {
  if (!can_repeat_) return;
  auto& step = steps_.back();
  step.kind = Kind::typed;
  step.index = typed_.size();
  auto* const type = reinterpret_cast<PyObject*>(step.type);
  typed_.push_back({steal_or_throw(PyWeakref_NewRef(type, nullptr)), extra});
}

bool LastWalk::is_same_typed(const Step& step, PyObject* o, const Path& path) {
  const auto& before = typed_[step.index];
  // Its type may have ended, and another have its address.
  const auto type = steal_or_throw(PyObject_CallNoArgs(before.type.ptr()));
  if (type.ptr() != reinterpret_cast<PyObject*>(Py_TYPE(o))) return false;
  const auto parts = take_typed(o);
  if (!parts || !parts->extra.equal(before.extra)) return false;
  if (nb::len(parts->fields) != before.fields) return false;
  PyObject *name = nullptr, *field = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(parts->fields.ptr(), &position, &name, &field) != 0) {
    if (!is_same_key(name)) return false;
    if (!is_same(field, {&path, name, -1, nullptr, path.depth + 1})) return false;
  }
  return true;
}

}  // namespace understudy::python
