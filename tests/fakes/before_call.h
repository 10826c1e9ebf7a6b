// The table of system calls with something done before one of those that a reader
// makes: what a writer might do at that very moment.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <type_traits>

#include "os/calls.h"

namespace understudy::fakes {

/// For its scope, runs `then` before the reader's call with number `at` (from 1): a
/// call that opens, looks at, lists or reads. One at a time.
class BeforeCall {
 public:
  BeforeCall(int at, std::function<void()> then)
      : at_(at), then_(std::move(then)), replaced_((current_ = this, table())) {}
  ~BeforeCall() { current_ = nullptr; }
  BeforeCall(const BeforeCall&) = delete;
  BeforeCall& operator=(const BeforeCall&) = delete;

  bool was_reached() const { return count_ >= at_; }

 private:
  template <auto Member>
  struct Watched;
  template <class R, class... A, R (*os::Calls::*Member)(A...)>
  struct Watched<Member> {
    static R call(A... arguments) {
      if (++current_->count_ == current_->at_) {
        const int before = errno;
        current_->then_();
        errno = before;  // who reads a folder tells its end from a failure by that
      }
      return (os::system_calls().*Member)(arguments...);
    }
  };

  static const os::Calls& table() {
    static const os::Calls calls = [] {
      os::Calls all = os::system_calls();
      all.open = Watched<&os::Calls::open>::call;
      all.openat = Watched<&os::Calls::openat>::call;
      all.fstat = Watched<&os::Calls::fstat>::call;
      all.fstatat = Watched<&os::Calls::fstatat>::call;
      all.pread = Watched<&os::Calls::pread>::call;
      all.fdopendir = Watched<&os::Calls::fdopendir>::call;
      all.readdir = Watched<&os::Calls::readdir>::call;
      return all;
    }();
    return calls;
  }

  static inline BeforeCall* current_ = nullptr;
  const int at_;
  const std::function<void()> then_;
  std::atomic<int> count_ = 0;
  os::ReplaceCalls replaced_;
};

}  // namespace understudy::fakes
