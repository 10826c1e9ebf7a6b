#include "vm/write_protection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "os/calls.h"
#include "os/failure.h"
#include "os/small_files.h"
#include "vm/memory_map.h"
#include "vm/pages.h"

namespace understudy::vm {
namespace {

using os::calls;

// What headers before Linux 6.7 do not have.
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
constexpr std::uint64_t kWriteProtectUnpopulated = std::uint64_t{1} << 13;  // Linux 6.4

// PAGEMAP_SCAN, Linux 6.7.
struct ScannedRegion {
  std::uint64_t start, end, categories;
};
struct PagemapScan {
  std::uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages,
      category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);
constexpr std::uint64_t kIsWritten = 1 << 1, kIsPresent = 1 << 3, kIsSwapped = 1 << 4;

}  // namespace

OpenedUserfault open_userfault() {
  // The device asks for its own permissions only, the call for a capability or
  // the sysctl: either will do. Without them it serves faults of user code only,
  // and the program's own read() into a protected page would fail.
  const int device = calls().open("/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
  if (device >= 0) {
    const int fd = calls().ioctl(device, USERFAULTFD_IOC_NEW,
                                 reinterpret_cast<void*>(std::uintptr_t{O_CLOEXEC | O_NONBLOCK}));
    calls().close(device);
    if (fd >= 0) return {fd, "/dev/userfaultfd", {}};
  }
  const int fd = calls().userfaultfd(O_CLOEXEC | O_NONBLOCK);
  if (fd >= 0) return {fd, "the system call", {}};
  if (errno == EPERM) {
    return {-1,
            fmt::format("kernel faults are not permitted (vm.unprivileged_userfaultfd is {}, and "
                        "/dev/userfaultfd is not open to this user)",
                        os::line_in("/proc/sys/vm/unprivileged_userfaultfd").value_or("missing")),
            "sudo sysctl vm.unprivileged_userfaultfd=1"};
  }
  return {-1, fmt::format("the system call failed: {}", std::strerror(errno)), {}};
}

std::string greet_userfault(int fd) {
  uffdio_api api{};
  api.api = UFFD_API;
  // Pages that were never touched are protected too.
  api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | kWriteProtectUnpopulated;
  if (calls().ioctl(fd, UFFDIO_API, &api) != 0) {
    return "this kernel cannot write-protect pages that were never touched (Linux 6.4 can)";
  }
  const int pagemap = calls().open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
  if (pagemap < 0) {
    return fmt::format("/proc/self/pagemap cannot be opened: {}", std::strerror(errno));
  }
  PagemapScan scan{};
  scan.size = sizeof scan;
  const int done = calls().ioctl(pagemap, kPagemapScan, &scan);
  calls().close(pagemap);
  if (done != 0) return "this kernel cannot tell which pages stayed protected (Linux 6.7 can)";
  return why_no_copy();
}

WriteProtection::WriteProtection() {
  const auto opened = open_userfault();
  if (opened.fd < 0) {
    fail(ErrorCode::unsupported, "{}{}{}", opened.detail,
         opened.remedy.empty() ? "" : "; what helps is: ", opened.remedy);
  }
  fd_ = opened.fd;
  if (const auto lacks = greet_userfault(fd_); !lacks.empty()) {
    calls().close(fd_);
    fail(ErrorCode::unsupported, "{}", lacks);
  }
  pagemap_ = calls().open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
  if (pagemap_ < 0) {
    const int cause = errno;
    calls().close(fd_);
    os::fail_call("open", "/proc/self/pagemap", cause);
  }
}

WriteProtection::~WriteProtection() {
  // Parts of what was added may be gone, and others lie at their addresses: only
  // mappings that could be ours are taken out, one by one.
  try {
    const auto mappings = MemoryMap::of_this_process();
    for (const auto& mapping : mappings.all()) {
      if (mapping.kind != MappedRange::Kind::anonymous) continue;
      const bool is_ours = std::any_of(added_.begin(), added_.end(), [&](const Range& r) {
        return mapping.begin < r.end && r.begin < mapping.end;
      });
      uffdio_range range{mapping.begin, mapping.end - mapping.begin};
      if (is_ours) calls().ioctl(fd_, UFFDIO_UNREGISTER, &range);
    }
  } catch (const std::exception&) {
    // Without a look at the mappings: all at once, as far as that goes.
    for (const auto& r : added_) {
      uffdio_range range{r.begin, r.end - r.begin};
      calls().ioctl(fd_, UFFDIO_UNREGISTER, &range);
    }
  }
  // Somebody may have closed them, and others have their numbers.
  if (has_pagemap()) calls().close(pagemap_);
  if (has_userfault()) calls().close(fd_);
}

bool WriteProtection::add(std::uintptr_t begin, std::uintptr_t end) {
  added_.reserve(added_.size() + 1);
  uffdio_register what{};
  what.range = {begin, end - begin};
  what.mode = UFFDIO_REGISTER_MODE_WP;
  // Done again for one that was added: it may have been mapped anew.
  if (calls().ioctl(fd_, UFFDIO_REGISTER, &what) != 0) return false;
  const bool is_known = std::any_of(added_.begin(), added_.end(), [&](const Range& r) {
    return r.begin <= begin && end <= r.end;
  });
  if (!is_known) added_.push_back({begin, end});
  return true;
}

bool WriteProtection::protect(std::uintptr_t begin, std::uint64_t nbytes) noexcept {
  uffdio_writeprotect what{{begin, nbytes}, UFFDIO_WRITEPROTECT_MODE_WP};
  return calls().ioctl(fd_, UFFDIO_WRITEPROTECT, &what) == 0;
}

bool WriteProtection::lift(std::uintptr_t begin, std::uint64_t nbytes) noexcept {
  uffdio_writeprotect what{{begin, nbytes}, 0};
  if (calls().ioctl(fd_, UFFDIO_WRITEPROTECT, &what) == 0) return true;
  // The kernel stops at the first part that is not registered: page by page then.
  const auto page = page_nbytes();
  for (auto at = begin; at < begin + nbytes; at += page) {
    what = {{at, page}, 0};
    calls().ioctl(fd_, UFFDIO_WRITEPROTECT, &what);
  }
  uffdio_range range{begin, nbytes};
  calls().ioctl(fd_, UFFDIO_WAKE, &range);
  return false;
}

WriteProtection::Answer WriteProtection::is_protected(std::uintptr_t begin,
                                                      std::uint64_t nbytes) const noexcept {
  // Asks for pages that have contents (or the mark of a protected page that was
  // never touched) and were not written: one region, which is the whole range.
  ScannedRegion region{};
  PagemapScan scan{};
  scan.size = sizeof scan;
  scan.start = begin;
  scan.end = begin + nbytes;
  scan.regions = reinterpret_cast<std::uintptr_t>(&region);
  scan.region_count = 1;
  scan.category_inverted = kIsWritten;
  scan.category_mask = kIsWritten;
  scan.category_anyof_mask = kIsPresent | kIsSwapped;
  const int regions = calls().ioctl(pagemap_, kPagemapScan, &scan);
  if (regions < 0 && (errno == EBADF || errno == ENOTTY)) return Answer::none;
  return regions == 1 && region.start == scan.start && region.end == scan.end ? Answer::yes
                                                                              : Answer::no;
}

bool WriteProtection::has_userfault() const noexcept {
  // An empty range: refused by the userfaultfd, and by any other descriptor in another way.
  uffdio_range nothing{};
  return calls().ioctl(fd_, UFFDIO_WAKE, &nothing) == 0 || errno == EINVAL;
}

bool WriteProtection::has_pagemap() const noexcept {
  PagemapScan scan{};
  scan.size = sizeof scan;
  return calls().ioctl(pagemap_, kPagemapScan, &scan) == 0;
}

std::string WriteProtection::why_not() const {
  if (!has_userfault() || !has_pagemap()) {
    return "somebody closed a descriptor of Understudy's that protects memory";
  }
  return why_no_copy();
}

int WriteProtection::wait_for_writes(std::array<std::uintptr_t, 16>& addresses,
                                     const os::Event& interrupt) noexcept {
  std::array<uffd_msg, 16> messages;
  for (;;) {
    std::array<pollfd, 2> entries{pollfd{fd_, POLLIN, 0}, pollfd{interrupt.fd(), POLLIN, 0}};
    if (calls().poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return -1;
    if ((entries[0].revents & (POLLERR | POLLNVAL)) != 0) return -1;
    if (entries[0].revents != 0) {
      const auto n = calls().read(fd_, messages.data(), sizeof messages);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return -1;
      int count = 0;
      for (ssize_t i = 0; i < n / static_cast<ssize_t>(sizeof(uffd_msg)); ++i) {
        const auto& message = messages[static_cast<std::size_t>(i)];
        if (message.event != UFFD_EVENT_PAGEFAULT) continue;
        addresses[static_cast<std::size_t>(count++)] = message.arg.pagefault.address;
      }
      if (count > 0) return count;
    }
    if (entries[1].revents != 0) return 0;
  }
}

bool WriteProtection::has_waiting_writes() const noexcept {
  pollfd entry{fd_, POLLIN, 0};
  return calls().poll(&entry, 1, 0) == 1 && (entry.revents & POLLIN) != 0;
}

void WriteProtection::abandon() noexcept {
  // Not by the table, which tests may have replaced in the parent.
  ::close(fd_);
  ::close(pagemap_);
}

CopyResult copy_fault_proof(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  while (nbytes > 0) {
    const iovec source{const_cast<std::byte*>(from), nbytes}, target{to, nbytes};
    const auto n = calls().write_own_memory(&source, &target);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EFAULT) return CopyResult::refused;
    if (n <= 0) return CopyResult::not_mapped;
    to += n, from += n, nbytes -= static_cast<std::size_t>(n);
  }
  return CopyResult::done;
}

std::string why_no_copy() {
  std::byte from{1}, to{0};
  if (copy_fault_proof(&to, &from, 1) == CopyResult::done && to == from) return {};
  return fmt::format("this process may not copy by process_vm_writev: {}", std::strerror(errno));
}

}  // namespace understudy::vm
