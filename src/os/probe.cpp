#include "os/probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "os/descriptor.h"
#include "os/small_files.h"
#include "os/system.h"

namespace understudy::os {
namespace {

std::string reason(int error) {
  return std::strerror(error);
}

std::string gib(std::uint64_t nbytes) {
  return fmt::format("{:.1f} GiB", static_cast<double>(nbytes) / double(1 << 30));
}

}  // namespace

Found probe_io_uring() {
  io_uring_params params{};
  const Descriptor ring(static_cast<int>(syscall(SYS_io_uring_setup, 1, &params)));
  if (ring.is_open()) return {true, "a ring could be set up"};
  const int error = errno;
  const auto disabled = line_in("/proc/sys/kernel/io_uring_disabled").value_or("");
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
