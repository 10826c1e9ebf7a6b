#include "device/pinned_memory.h"

#include <cstdint>

#include "os/library.h"

namespace understudy::device {

PinnedMemory::PinnedMemory() {
  // A driver that nobody has loaded has pinned nothing.
  const auto driver = os::Library::loaded("libcuda.so.1");
  get_attribute_ = reinterpret_cast<GetAttribute>(driver.find("cuPointerGetAttribute"));
}

bool PinnedMemory::holds(const void* address) const noexcept {
  if (get_attribute_ == nullptr) return false;
  constexpr int kMemoryType = 2;  // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
  unsigned type = 0;
  // An error says that the address is none of the driver's.
  return get_attribute_(&type, kMemoryType, reinterpret_cast<std::uintptr_t>(address)) == 0;
}

}  // namespace understudy::device
