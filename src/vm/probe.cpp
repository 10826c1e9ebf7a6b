#include "vm/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "os/descriptor.h"
#include "os/small_files.h"
#include "vm/write_protection.h"

namespace understudy::vm {
namespace {

/// "madvise" out of "always [madvise] never".
std::string chosen(const std::string& line) {
  const auto from = line.find('[');
  const auto to = line.find(']');
  if (from == std::string::npos || to == std::string::npos || to < from) return {};
  return line.substr(from + 1, to - from - 1);
}

std::string gib(std::uint64_t nbytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(nbytes) / double(1 << 30));
}

}  // namespace

os::Found probe_huge_pages() {
  const auto line = os::line_in("/sys/kernel/mm/transparent_hugepage/enabled").value_or("");
  const auto setting = chosen(line);
  if (setting.empty()) return {false, "this kernel has no transparent huge pages"};
  const auto shared =
      chosen(os::line_in("/sys/kernel/mm/transparent_hugepage/shmem_enabled").value_or(""));
  return {setting != "never", fmt::format("private memory: {}, shared memory: {}", setting,
                                          shared.empty() ? "none" : shared)};
}

os::Found probe_userfaultfd() {
  const auto opened = open_userfault();
  const os::Descriptor fd(opened.fd);
  if (!fd.is_open()) return {false, opened.detail};
  if (const auto lacks = greet_userfault(fd.get()); !lacks.empty()) return {false, lacks};
  return {true, fmt::format("write protection with kernel faults, opened by {}", opened.detail)};
}

os::Found probe_shared_memory() {
  std::string mount = "/dev/shm is not there";
  struct statvfs at {};
  if (statvfs("/dev/shm", &at) == 0) {
    mount = fmt::format("/dev/shm has {} free of {}", gib(std::uint64_t{at.f_bavail} * at.f_frsize),
                        gib(std::uint64_t{at.f_blocks} * at.f_frsize));
  }
  const os::Descriptor fd(memfd_create("understudy-probe", MFD_CLOEXEC));
  if (!fd.is_open()) {
    return {false, fmt::format("no anonymous shared memory: {}; {}", std::strerror(errno), mount)};
  }
  if (const int error = posix_fallocate(fd.get(), 0, 4096); error != 0) {
    return {false, fmt::format("anonymous shared memory has no space: {}; {}", std::strerror(error),
                               mount)};
  }
  return {true, fmt::format("anonymous shared memory works; {}", mount)};
}

}  // namespace understudy::vm
