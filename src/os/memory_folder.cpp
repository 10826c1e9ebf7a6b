#include "os/memory_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "os/failure.h"
#include "os/small_files.h"

namespace understudy::os {

bool is_in_memory(const Directory& directory) {
  struct statfs found {};
  if (uninterrupted([&] { return fstatfs(directory.fd(), &found); }) != 0) {
    fail_call("look at the file system of", directory.name(), errno);
  }
  return static_cast<std::uint64_t>(found.f_type) == TMPFS_MAGIC;
}

std::uint64_t room_in(const Directory& directory) {
  struct statvfs found {};
  if (uninterrupted([&] { return fstatvfs(directory.fd(), &found); }) != 0) {
    fail_call("look at the file system of", directory.name(), errno);
  }
  return std::uint64_t{found.f_bavail} * found.f_frsize;
}

uid_t this_user() noexcept {
  return geteuid();
}

std::string boot_id() {
  return line_in("/proc/sys/kernel/random/boot_id").value_or("");
}

std::string identity_of(const Directory& directory) {
  struct statx found {};
  const auto result = uninterrupted(
      [&] { return statx(directory.fd(), "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &found); });
  if (result != 0) {  // an older kernel
    const auto info = directory.info();
    return fmt::format("{}:{}:{}", major(info.device), minor(info.device), info.number);
  }
  auto text = fmt::format("{}:{}:{}", found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
  if ((found.stx_mask & STATX_BTIME) != 0) {
    text += fmt::format(":{}.{:09}", found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
  }
  return text;
}

}  // namespace understudy::os
