// The kernel's calls without waiting for the disk.
#pragma once

#include <fcntl.h>

#include "os/calls.h"

namespace understudy::fakes {

inline os::Calls fast_calls() {
  os::Calls table = os::system_calls();
  table.fsync = [](int fd) { return fcntl(fd, F_GETFD) < 0 ? -1 : 0; };
  return table;
}

}  // namespace understudy::fakes
