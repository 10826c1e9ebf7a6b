#include "os/library.h"

#include <dlfcn.h>

namespace understudy::os {

Library::Library(const std::string& name) : Library(name, RTLD_NOW | RTLD_LOCAL) {}

Library Library::loaded(const std::string& name) {
  return {name, RTLD_NOW | RTLD_NOLOAD};
}

Library::Library(const std::string& name, int flags) : handle_(dlopen(name.c_str(), flags)) {
  if (handle_ != nullptr) return;
  const char* const text = dlerror();
  problem_ = text != nullptr ? text : name + " cannot be opened";
}

void* Library::find(const char* symbol) const noexcept {
  return handle_ != nullptr ? dlsym(handle_, symbol) : nullptr;
}

}  // namespace understudy::os
