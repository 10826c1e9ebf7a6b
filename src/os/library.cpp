#include "os/library.h"

#include <dlfcn.h>

namespace understudy::os {

Library::Library(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ != nullptr) return;
  const char* const text = dlerror();
  problem_ = text != nullptr ? text : name + " cannot be opened";
}

void* Library::find(const char* symbol) const noexcept {
  return handle_ != nullptr ? dlsym(handle_, symbol) : nullptr;
}

}  // namespace understudy::os
