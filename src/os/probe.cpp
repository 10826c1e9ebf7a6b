#include "os/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "os/system.h"
#include "os/write_protection.h"

namespace understudy::os {
namespace {

/// A descriptor that is closed again whatever happens.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  bool is_open() const noexcept { return fd_ >= 0; }
  int get() const noexcept { return fd_; }

 private:
  int fd_;
};

std::string reason(int error) {
  return std::strerror(error);
}

/// The first line of a small file of the kernel's; empty when there is none.
std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

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

Found probe_huge_pages() {
  const auto line = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  const auto setting = chosen(line);
  if (setting.empty()) return {false, "this kernel has no transparent huge pages"};
  const auto shared = chosen(first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled"));
  return {setting != "never", fmt::format("private memory: {}, shared memory: {}", setting,
                                          shared.empty() ? "none" : shared)};
}

Found probe_userfaultfd() {
  const auto opened = open_userfault();
  const Descriptor fd(opened.fd);
  if (!fd.is_open()) return {false, opened.detail};
  if (const auto lacks = greet_userfault(fd.get()); !lacks.empty()) return {false, lacks};
  return {true, fmt::format("write protection with kernel faults, opened by {}", opened.detail)};
}

Found probe_io_uring() {
  io_uring_params params{};
  const Descriptor ring(static_cast<int>(syscall(SYS_io_uring_setup, 1, &params)));
  if (ring.is_open()) return {true, "a ring could be set up"};
  const int error = errno;
  const auto disabled = first_line("/proc/sys/kernel/io_uring_disabled");
  return {false, fmt::format("a ring could not be set up: {} (kernel.io_uring_disabled is {})",
                             reason(error), disabled.empty() ? "missing" : disabled)};
}

Found probe_direct_io(const std::filesystem::path& directory) {
  // Direct I/O wants memory, offset and length aligned to the device's blocks:
  // 4096 suits every one.
  alignas(4096) static const std::array<char, 4096> page{};
  auto name = (directory / ".understudy-probe-XXXXXX").string();
  const Descriptor plain(mkostemp(name.data(), O_CLOEXEC));
  if (!plain.is_open()) {
    return {false,
            fmt::format("cannot create a file in '{}': {}", directory.string(), reason(errno))};
  }
  const Descriptor fd(open(name.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC));
  const int open_error = errno;
  unlink(name.c_str());
  if (!fd.is_open()) {
    return {false, fmt::format("the file system of '{}' refuses it: {}", directory.string(),
                               reason(open_error))};
  }
  const auto n = pwrite(fd.get(), page.data(), page.size(), 0);
  if (n != static_cast<ssize_t>(page.size())) {
    return {false, fmt::format("a direct write in '{}' failed: {}", directory.string(),
                               n < 0 ? reason(errno) : "short count")};
  }
  return {true,
          fmt::format("4096 bytes were written past the page cache in '{}'", directory.string())};
}

Found probe_shared_memory() {
  std::string mount = "/dev/shm is not there";
  struct statvfs at {};
  if (statvfs("/dev/shm", &at) == 0) {
    mount = fmt::format("/dev/shm has {} free of {}", gib(std::uint64_t{at.f_bavail} * at.f_frsize),
                        gib(std::uint64_t{at.f_blocks} * at.f_frsize));
  }
  const Descriptor fd(memfd_create("understudy-probe", MFD_CLOEXEC));
  if (!fd.is_open()) {
    return {false, fmt::format("no anonymous shared memory: {}; {}", reason(errno), mount)};
  }
  if (const int error = posix_fallocate(fd.get(), 0, 4096); error != 0) {
    return {false,
            fmt::format("anonymous shared memory has no space: {}; {}", reason(error), mount)};
  }
  return {true, fmt::format("anonymous shared memory works; {}", mount)};
}

Found probe_cores() {
  const int cores = usable_cores();
  return {cores > 1, fmt::format("{} core{} for this process", cores, cores == 1 ? "" : "s")};
}

Found probe_memory() {
  const auto nbytes = available_memory();
  // Less than this would not hold an image of even a small training job.
  constexpr std::uint64_t kSmallestUseful = std::uint64_t{1} << 30;
  return {nbytes >= kSmallestUseful, fmt::format("{} can still be had", gib(nbytes))};
}

}  // namespace understudy::os
