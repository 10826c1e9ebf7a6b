#include "deepcopy/shared_segment.h"

#include <map>

#include "frameworks/torch_memory.h"

namespace understudy::python {
namespace {

// By where they begin. Those that have ended are removed when somebody meets
// them: their end comes without the GIL.
std::map<const std::byte*, std::weak_ptr<SharedSegment>>& segments() {
  static auto* const all = new std::map<const std::byte*, std::weak_ptr<SharedSegment>>;
  return *all;
}

}  // namespace

std::shared_ptr<SharedSegment> make_segment(std::shared_ptr<const Buffer> buffer) {
  auto made = std::make_shared<SharedSegment>(std::move(buffer));
  std::erase_if(segments(), [](const auto& known) { return known.second.expired(); });
  segments()[made->data()] = made;
  return made;
}

std::shared_ptr<SharedSegment> segment_at(const std::byte* address) {
  for (;;) {
    const auto after = segments().upper_bound(address);
    if (after == segments().begin()) return nullptr;
    const auto found = std::prev(after);
    if (auto segment = found->second.lock()) {
      return address < segment->data() + segment->nbytes() ? segment : nullptr;
    }
    segments().erase(found);
  }
}

nb::object storage_in_segment(const Torch& torch, std::byte* data, std::uint64_t nbytes,
                              std::shared_ptr<const void> owner) {
  static const auto storage_class =
      nb::object(nb::module_::import_("understudy._shared").attr("UntypedStorage")).release();
  static auto* const name = interned("__class__");
  auto storage = storage_over(torch, data, nbytes, std::move(owner));
  throw_if(PyObject_SetAttr(storage.ptr(), name, storage_class.ptr()) != 0);
  return storage;
}

}  // namespace understudy::python
