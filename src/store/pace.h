// Not faster than was asked for.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace understudy::store {

/// Books bytes against a rate. Thread-safe.
class Pace {
 public:
  using Clock = std::chrono::steady_clock;

  /// `rate` in bytes a second; 0: no limit.
  explicit Pace(std::uint64_t rate) noexcept : rate_(rate) {}

  /// When `nbytes` more may go, so that no more than the rate has gone at any
  /// moment since a pause.
  Clock::time_point book(std::uint64_t nbytes, Clock::time_point now);

  /// Books and waits until then, or until the limit is lifted.
  void wait(std::uint64_t nbytes);

  /// From now on there is no limit, also for those who wait. Once each lift has
  /// its restore, there is one again, without debts.
  void lift();
  void restore();

 private:
  const std::uint64_t rate_;
  std::mutex mutex_;
  std::condition_variable lifted_;
  int lifts_ = 0;
  Clock::time_point free_at_{};
};

/// What a writer owes to others while it writes.
struct Flow {
  Pace& pace;
  std::atomic<std::uint64_t>* done;  ///< counts bytes; null: nobody asks

  void add(std::uint64_t nbytes) const noexcept {
    if (done) done->fetch_add(nbytes, std::memory_order_relaxed);
  }
};

}  // namespace understudy::store
