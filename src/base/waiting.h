// Waiting awake: by slices, between which WhileWaiting is served.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "understudy/ticket.h"
#include "understudy/waiting.h"

namespace understudy {

/// Short enough that Ctrl-C feels prompt; costs nothing.
inline constexpr std::chrono::milliseconds kWaitSlice{50};

/// Whether this thread has a WhileWaiting, and its call.
struct WaitLook {
  static bool is_wanted() noexcept;
  static void look();
};

/// Waits until `ready`, which is asked under the lock; false when the time ran out first. Throws
/// what WhileWaiting threw: then the lock is not held.
template <class Ready>
bool wait_awake(std::unique_lock<std::mutex>& lock, std::condition_variable& changed,
                const Ready& ready, Timeout timeout = {}) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  // A wait of that length is one without limit, and the clock cannot overflow.
  constexpr Seconds kForever{1e9};
  const auto limit = std::clamp(timeout.value_or(kForever), Seconds::zero(), kForever);
  if (limit == kForever && !WaitLook::is_wanted()) {
    changed.wait(lock, ready);
    return true;
  }
  const auto began = Clock::now();
  for (auto left = limit;; left = limit - Seconds(Clock::now() - began)) {
    const auto slice = WaitLook::is_wanted() ? std::min(left, Seconds(kWaitSlice)) : left;
    if (changed.wait_for(lock, std::max(slice, Seconds::zero()), ready)) return true;
    if (Clock::now() - began >= limit) return false;
    lock.unlock();
    WaitLook::look();
    lock.lock();
  }
}

/// A mutex that is waited for awake.
class AwakeMutex {
 public:
  void lock() {
    std::unique_lock inner(mutex_);
    wait_awake(inner, given_, [this] { return !is_taken_; });
    is_taken_ = true;
  }
  void unlock() {
    {
      std::lock_guard inner(mutex_);
      is_taken_ = false;
    }
    given_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  bool is_taken_ = false;
};

}  // namespace understudy
