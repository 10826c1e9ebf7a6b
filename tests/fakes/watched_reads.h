// The table of system calls with pread watched: how much was read, and something
// done in the middle of it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "os/calls.h"

namespace understudy::fakes {

/// Counts what pread gives, for its scope; before the read with number `at`
/// (from 1) it runs `then`. One at a time.
class WatchedReads {
 public:
  explicit WatchedReads(int at = 0, std::function<void()> then = {})
      : at_(at), then_(std::move(then)), replaced_((current_ = this, table())) {}
  ~WatchedReads() { current_ = nullptr; }
  WatchedReads(const WatchedReads&) = delete;
  WatchedReads& operator=(const WatchedReads&) = delete;

  std::uint64_t nbytes() const { return nbytes_; }
  int count() const { return count_; }
  bool was_reached() const { return reached_; }

 private:
  static const os::Calls& table() {
    static const os::Calls calls = [] {
      os::Calls all = os::system_calls();
      all.pread = [](int fd, void* out, std::size_t nbytes, off_t offset) {
        if (++current_->count_ == current_->at_) {
          current_->reached_ = true;
          current_->then_();
        }
        const ssize_t result = ::pread(fd, out, nbytes, offset);
        if (result > 0) current_->nbytes_ += static_cast<std::uint64_t>(result);
        return result;
      };
      return all;
    }();
    return calls;
  }

  static inline WatchedReads* current_ = nullptr;
  const int at_;
  const std::function<void()> then_;
  std::atomic<std::uint64_t> nbytes_ = 0;
  std::atomic<int> count_ = 0;
  std::atomic<bool> reached_ = false;
  os::ReplaceCalls replaced_;
};

}  // namespace understudy::fakes
