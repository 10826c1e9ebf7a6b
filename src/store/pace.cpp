#include "store/pace.h"

#include <algorithm>
#include <thread>

namespace understudy::store {

Pace::Clock::time_point Pace::book(std::uint64_t nbytes, Clock::time_point now) {
  if (rate_ == 0) return now;
  const std::chrono::duration<double> takes(static_cast<double>(nbytes) /
                                            static_cast<double>(rate_));
  const std::lock_guard lock(mutex_);
  free_at_ = std::max(free_at_, now) + std::chrono::ceil<Clock::duration>(takes);
  return free_at_;
}

void Pace::wait(std::uint64_t nbytes) {
  if (rate_ == 0) return;
  std::this_thread::sleep_until(book(nbytes, Clock::now()));
}

}  // namespace understudy::store
