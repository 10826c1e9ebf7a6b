// The calls of overlapped capture with a fault planted into them.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <thread>

#include "os/calls.h"

namespace understudy::fakes {

/// In place for its scope, over the kernel's own calls. One at a time. Hooks are
/// set before the stager under test is made, and may be called by its threads.
class PlantedProtection {
 public:
  PlantedProtection() : replaced_(table()) { current_ = this; }
  ~PlantedProtection() { current_ = nullptr; }
  PlantedProtection(const PlantedProtection&) = delete;
  PlantedProtection& operator=(const PlantedProtection&) = delete;

  /// Before pages are protected; may change the range, or refuse by an errno.
  std::function<int(uffdio_range&)> on_protect;
  /// Before a piece is copied from this address.
  std::function<void(const std::byte* from)> before_copy;
  /// Before the handler asks for writes that wait.
  std::function<void()> before_serving;
  /// What the calls refuse with, where it is not 0: copies of that many bytes and more, the
  /// question whether pages stayed protected, the opening of files, advice about memory.
  std::atomic<int> copy_error{0}, answer_error{0}, open_error{0}, madvise_error{0};
  std::atomic<std::size_t> copy_error_nbytes{1};
  /// Says that pages stayed protected whatever happened to them.
  std::atomic<bool> says_protected{false};
  std::atomic<int> asked{0};

  /// Lifts behind the library's back.
  void lift(std::uintptr_t begin, std::uint64_t nbytes) {
    uffdio_writeprotect what{{begin, nbytes}, 0};
    os::system_calls().ioctl(fd_, UFFDIO_WRITEPROTECT, &what);
  }

 private:
  // PAGEMAP_SCAN, of which the headers may know nothing.
  struct Region {
    std::uint64_t start, end, categories;
  };
  struct Scan {
    std::uint64_t size, flags, start, end, walk_end, regions, more[6];
  };

  static int ioctl(int fd, unsigned long request, void* argument) {
    auto& self = *current_;
    if (request == UFFDIO_WRITEPROTECT) {
      self.fd_ = fd;
      auto& what = *static_cast<uffdio_writeprotect*>(argument);
      if (what.mode == UFFDIO_WRITEPROTECT_MODE_WP && self.on_protect) {
        auto changed = what;
        if (const int error = self.on_protect(changed.range); error != 0) {
          errno = error;
          return -1;
        }
        return os::system_calls().ioctl(fd, request, &changed);
      }
    }
    if (_IOC_TYPE(request) == 'f' && _IOC_NR(request) == 16) {
      auto& scan = *static_cast<Scan*>(argument);
      if (scan.start != scan.end) ++self.asked;
      if (scan.start != scan.end && self.answer_error != 0) return errno = self.answer_error, -1;
      if (self.says_protected && scan.start != scan.end) {
        *reinterpret_cast<Region*>(scan.regions) = {scan.start, scan.end, 0};
        return 1;
      }
    }
    return os::system_calls().ioctl(fd, request, argument);
  }

  static ssize_t write_own_memory(const iovec* from, const iovec* to) {
    auto& self = *current_;
    if (self.copy_error != 0 && from->iov_len >= self.copy_error_nbytes) {
      return errno = self.copy_error, -1;
    }
    // One byte is a trial.
    if (self.before_copy && from->iov_len > 1) {
      self.before_copy(static_cast<std::byte*>(from->iov_base));
    }
    return os::system_calls().write_own_memory(from, to);
  }

  static int open(const char* path, int flags, mode_t mode) {
    if (current_->open_error != 0) return errno = current_->open_error, -1;
    return os::system_calls().open(path, flags, mode);
  }

  static int madvise(void* address, std::size_t nbytes, int advice) {
    if (current_->madvise_error != 0) return errno = current_->madvise_error, -1;
    return os::system_calls().madvise(address, nbytes, advice);
  }

  static int poll(pollfd* fds, nfds_t count, int timeout_ms) {
    if (count == 2 && current_->before_serving) current_->before_serving();
    return os::system_calls().poll(fds, count, timeout_ms);
  }

  static const os::Calls& table() {
    static const os::Calls calls = [] {
      auto t = os::system_calls();
      t.ioctl = ioctl;
      t.write_own_memory = write_own_memory;
      t.poll = poll;
      t.open = open;
      t.madvise = madvise;
      return t;
    }();
    return calls;
  }

  static inline PlantedProtection* current_ = nullptr;
  std::atomic<int> fd_{-1};
  os::ReplaceCalls replaced_;
};

}  // namespace understudy::fakes
