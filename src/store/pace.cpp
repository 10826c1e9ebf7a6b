#include "store/pace.h"

#include <algorithm>

namespace understudy::store {

Pace::Clock::time_point Pace::book(std::uint64_t nbytes, Clock::time_point now) {
  if (rate_ == 0) return now;
  const std::chrono::duration<double> takes(static_cast<double>(nbytes) /
                                            static_cast<double>(rate_));
  const std::lock_guard lock(mutex_);
  if (lifts_ > 0) return now;
  free_at_ = std::max(free_at_, now) + std::chrono::ceil<Clock::duration>(takes);
  return free_at_;
}

void Pace::wait(std::uint64_t nbytes) {
  if (rate_ == 0) return;
  const auto until = book(nbytes, Clock::now());
  std::unique_lock lock(mutex_);
  lifted_.wait_until(lock, until, [&] { return lifts_ > 0; });
}

void Pace::lift() {
  {
    const std::lock_guard lock(mutex_);
    ++lifts_;
  }
  lifted_.notify_all();
}

void Pace::restore() {
  const std::lock_guard lock(mutex_);
  if (--lifts_ == 0) free_at_ = {};
}

}  // namespace understudy::store
