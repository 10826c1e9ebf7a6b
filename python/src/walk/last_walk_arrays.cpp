// Arrays of NumPy, and dense parts of typed values, in the pass over a state.
#include <algorithm>

#include "core/buffer.h"
#include "walk/array_memory.h"
#include "walk/last_walk_pass.h"

namespace understudy::python {

bool LastWalk::end_array(Step& step, PyObject* o, const Value& value) {
  Buffer buffer;
  if (value.type() != Value::Type::tensor || !buffer.get(o)) {
    PyErr_Clear();
    return false;
  }
  const auto& view = buffer.view();
  if (value.as_tensor().data() != view.buf) return false;
  step.kind = Kind::array;
  step.data = static_cast<const std::byte*>(view.buf);
  step.index = arrays_.size();
  arrays_.push_back({view.format == nullptr ? "" : view.format,
                     view.itemsize,
                     {view.shape, view.shape + view.ndim},
                     {view.strides, view.strides + view.ndim}});
  return true;
}

bool LastWalk::Array::is(const Py_buffer& view) const {
  const auto dims = static_cast<std::size_t>(view.ndim);
  return format == (view.format == nullptr ? "" : view.format) && item_nbytes == view.itemsize &&
         shape.size() == dims && std::equal(shape.begin(), shape.end(), view.shape) &&
         std::equal(strides.begin(), strides.end(), view.strides);
}

bool LastWalk::is_same_array(const Step& step, PyObject* o) {
  Buffer buffer;
  if (!buffer.get(o)) return PyErr_Clear(), false;
  const auto& view = buffer.view();
  if (!arrays_[step.index].is(view) || !is_within_its_owner(o, view)) return false;
  note_place(step, nullptr, static_cast<const std::byte*>(view.buf));
  pass_->owners->add(nb::borrow(o));
  return true;
}

}  // namespace understudy::python
