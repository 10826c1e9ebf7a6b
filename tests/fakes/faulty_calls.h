// The table of system calls with a fault in one call.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "os/calls.h"

namespace understudy::fakes {

enum class FaultMode {
  none,              ///< only count
  fail,              ///< the call is not made, and fails
  fail_after_doing,  ///< the call is made, and said to fail
  short_count,       ///< pread, pwrite and uring_result say that half was done
  zero_count,        ///< pread and pwrite do nothing and say 0; uring_result says 0
  exit,              ///< the process ends before the call
  event,             ///< `event` is called before the call, by the thread that makes it
};

struct Fault {
  FaultMode mode = FaultMode::none;
  int nth = 0;                       ///< which call, counted from 1; 0: every one
  int error = 0;                     ///< errno
  std::string call = {};             ///< only calls of this name are counted; empty: all
  std::function<void()> event = {};  ///< of FaultMode::event; may make calls of its own
};

/// The exit status of FaultMode::exit.
inline constexpr int kFaultExit = 77;

/// Puts the fault in place for its scope, over the calls of `real`. One at a time.
class FaultyCalls {
 public:
  explicit FaultyCalls(const Fault& fault, const os::Calls& real = os::system_calls());
  ~FaultyCalls() { current_ = nullptr; }
  FaultyCalls(const FaultyCalls&) = delete;
  FaultyCalls& operator=(const FaultyCalls&) = delete;

  int count() const { return count_; }
  bool was_reached() const { return reached_; }
  /// The names of the counted calls, in order.
  std::vector<std::string> log() const {
    const std::lock_guard guard(mutex_);
    return log_;
  }

  /// What the call that comes now has to do.
  static FaultMode next(const char* name);
  static int error() { return current_->fault_.error; }
  static void event() { current_->fault_.event(); }
  static const os::Calls& real() { return current_->real_; }

 private:
  static inline FaultyCalls* current_ = nullptr;
  const Fault fault_;
  const os::Calls& real_;
  std::atomic<int> count_ = 0;
  std::atomic<bool> reached_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> log_;
  os::ReplaceCalls replaced_;
};

inline FaultMode FaultyCalls::next(const char* name) {
  FaultyCalls& faults = *current_;
  if (!faults.fault_.call.empty() && faults.fault_.call != name) return FaultMode::none;
  const int number = ++faults.count_;
  {
    const std::lock_guard guard(faults.mutex_);
    faults.log_.emplace_back(name);
  }
  if (faults.fault_.mode == FaultMode::none) return FaultMode::none;
  if (faults.fault_.nth != 0 && faults.fault_.nth != number) return FaultMode::none;
  faults.reached_ = true;
  return faults.fault_.mode;
}

/// One member of the table, with the fault before it.
template <auto Member>
struct FaultyCall;

template <class R, class... A, R (*os::Calls::*Member)(A...)>
struct FaultyCall<Member> {
  static inline const char* name = "";
  static inline bool is_open = false;     ///< makes a descriptor
  static inline bool is_release = false;  ///< what it names is gone, failed or not

  static R failure() {
    errno = FaultyCalls::error();
    if constexpr (std::is_same_v<R, void*>)
      return MAP_FAILED;
    else if constexpr (std::is_pointer_v<R>)
      return nullptr;
    else
      return -1;
  }

  /// The call with its result thrown away: nobody will close it.
  static void do_and_drop(A... arguments) {
    if constexpr (!std::is_pointer_v<R>) {
      const R result = (FaultyCalls::real().*Member)(arguments...);
      if (is_open && result >= 0) ::close(static_cast<int>(result));
    }
  }

  static R call(A... arguments) {
    const auto real = FaultyCalls::real().*Member;
    constexpr bool has_count = std::is_same_v<R, ssize_t>;
    switch (FaultyCalls::next(name)) {
      case FaultMode::exit: _exit(kFaultExit);
      case FaultMode::fail:
        if (is_release) real(arguments...);
        return failure();
      case FaultMode::fail_after_doing: do_and_drop(arguments...); return failure();
      case FaultMode::short_count:
        if constexpr (has_count) {
          const R result = real(arguments...);
          return result > 1 ? result / 2 : result;
        }
        break;
      case FaultMode::zero_count:
        if constexpr (has_count) return 0;
        break;
      case FaultMode::event: FaultyCalls::event(); break;
      case FaultMode::none: break;
    }
    return real(arguments...);
  }
};

template <auto Member>
auto faulty(const char* name) {
  const std::string_view text = name;
  FaultyCall<Member>::name = name;
  FaultyCall<Member>::is_open = text.starts_with("open") || text == "duplicate" ||
                                text == "memfd_create" || text == "userfaultfd" ||
                                text == "eventfd";
  FaultyCall<Member>::is_release = text.starts_with("close") || text == "munmap";
  return &FaultyCall<Member>::call;
}

inline const os::Calls& faulty_table() {
  using os::Calls;
  static const Calls table = {
      .open = faulty<&Calls::open>("open"),
      .openat = faulty<&Calls::openat>("openat"),
      .duplicate = faulty<&Calls::duplicate>("duplicate"),
      .close = faulty<&Calls::close>("close"),
      .pread = faulty<&Calls::pread>("pread"),
      .pwrite = faulty<&Calls::pwrite>("pwrite"),
      .fsync = faulty<&Calls::fsync>("fsync"),
      .sync_file_range = faulty<&Calls::sync_file_range>("sync_file_range"),
      .fadvise = faulty<&Calls::fadvise>("fadvise"),
      .fallocate = faulty<&Calls::fallocate>("fallocate"),
      .ftruncate = faulty<&Calls::ftruncate>("ftruncate"),
      .fstat = faulty<&Calls::fstat>("fstat"),
      .fstatat = faulty<&Calls::fstatat>("fstatat"),
      .readlinkat = faulty<&Calls::readlinkat>("readlinkat"),
      .fchmod = faulty<&Calls::fchmod>("fchmod"),
      .mkdirat = faulty<&Calls::mkdirat>("mkdirat"),
      .renameat = faulty<&Calls::renameat>("renameat"),
      .renameat2 = faulty<&Calls::renameat2>("renameat2"),
      .linkat = faulty<&Calls::linkat>("linkat"),
      .unlinkat = faulty<&Calls::unlinkat>("unlinkat"),
      .lock = faulty<&Calls::lock>("lock"),
      .flock = faulty<&Calls::flock>("flock"),
      .fdopendir = faulty<&Calls::fdopendir>("fdopendir"),
      .readdir = faulty<&Calls::readdir>("readdir"),
      .closedir = faulty<&Calls::closedir>("closedir"),
      .memfd_create = faulty<&Calls::memfd_create>("memfd_create"),
      .mmap = faulty<&Calls::mmap>("mmap"),
      .munmap = faulty<&Calls::munmap>("munmap"),
      .madvise = faulty<&Calls::madvise>("madvise"),
      .userfaultfd = faulty<&Calls::userfaultfd>("userfaultfd"),
      .ioctl = faulty<&Calls::ioctl>("ioctl"),
      .eventfd = faulty<&Calls::eventfd>("eventfd"),
      .poll = faulty<&Calls::poll>("poll"),
      .read = faulty<&Calls::read>("read"),
      .write = faulty<&Calls::write>("write"),
      .write_own_memory = faulty<&Calls::write_own_memory>("write_own_memory"),
      .uring_open = faulty<&Calls::uring_open>("uring_open"),
      .uring_submit = faulty<&Calls::uring_submit>("uring_submit"),
      .uring_wait = faulty<&Calls::uring_wait>("uring_wait"),
      .uring_result = faulty<&Calls::uring_result>("uring_result"),
  };
  return table;
}

inline FaultyCalls::FaultyCalls(const Fault& fault, const os::Calls& real)
    : fault_(fault), real_(real), replaced_(faulty_table()) {
  current_ = this;
}

}  // namespace understudy::fakes
