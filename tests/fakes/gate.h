// The table of system calls with every fsync held up.
#pragma once

#include <unistd.h>

#include <atomic>
#include <latch>

#include "os/calls.h"

namespace understudy::fakes {

/// Holds every fsync until it is opened: the first save cannot end, and what
/// comes after it waits.
class Gate {
 public:
  Gate() : replaced_(table()) { latch_ = &opened_; }
  ~Gate() { open(); }
  void open() {
    if (!is_open_) opened_.count_down();
    is_open_ = true;
  }

 private:
  static const os::Calls& table() {
    static const os::Calls gated = [] {
      os::Calls calls = os::system_calls();
      calls.fsync = [](int fd) {
        latch_.load()->wait();
        return ::fsync(fd);
      };
      return calls;
    }();
    return gated;
  }

  static inline std::atomic<std::latch*> latch_ = nullptr;
  std::latch opened_{1};
  bool is_open_ = false;
  os::ReplaceCalls replaced_;
};

}  // namespace understudy::fakes
