#include "os/pinned.h"

#include <dlfcn.h>

#include <cstdint>

namespace understudy::os {

PinnedMemory::PinnedMemory() {
  // A driver that nobody has loaded has pinned nothing.
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (driver == nullptr) return;
  get_attribute_ = reinterpret_cast<GetAttribute>(dlsym(driver, "cuPointerGetAttribute"));
  dlclose(driver);  // the program's own reference keeps it
}

bool PinnedMemory::holds(const void* address) const noexcept {
  if (get_attribute_ == nullptr) return false;
  constexpr int kMemoryType = 2;  // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
  unsigned type = 0;
  // An error says that the address is none of the driver's.
  return get_attribute_(&type, kMemoryType, reinterpret_cast<std::uintptr_t>(address)) == 0;
}

}  // namespace understudy::os
