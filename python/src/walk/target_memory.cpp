#include "walk/target_memory.h"

#include "core/buffer.h"
#include "core/errors.h"
#include "walk/array_memory.h"

namespace understudy::python {
namespace {

StorageBytes bytes_in(const Py_buffer& view) {
  return {static_cast<const std::byte*>(view.buf), static_cast<std::uint64_t>(view.len)};
}

}  // namespace

void TargetMemory::add_array(PyObject* array, const Py_buffer& view, std::string place) {
  targets_.push_back({array, bytes_in(view), std::move(place), false});
}

StorageBytes TargetMemory::present_bytes(const Target& target) {
  if (target.is_torch) {
    return bytes_of(*torch_if_loaded(), target.object);
  }
  Buffer buffer;
  throw_if(!buffer.get(target.object));
  if (!is_within_its_owner(target.object, buffer.view())) return {};
  return bytes_in(buffer.view());
}

void TargetMemory::require_unchanged() const {
  for (const auto& target : targets_) {
    if (present_bytes(target) == target.bytes) continue;
    fail(ErrorCode::invalid,
         "the memory of the {} {} was resized while the state was restored, by code of an object "
         "that was given its part before",
         target.is_torch ? "tensor" : "NumPy array", target.place);
  }
}

}  // namespace understudy::python
