#include "checkpointer/save_queue.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace understudy {

namespace {

bool is_dropped(const std::exception_ptr& failure) {
  if (!failure) return false;
  try {
    std::rethrow_exception(failure);
  } catch (const DroppedSave&) {
    return true;
  } catch (...) {
    return false;
  }
}

}  // namespace

bool SaveQueue::has(std::int64_t step) const {
  std::lock_guard lock(mutex_);
  return steps_.contains(step);
}

bool SaveQueue::has_free_image() const {
  std::lock_guard lock(mutex_);
  return steps_.size() < static_cast<std::size_t>(images_);
}

void SaveQueue::push(const std::shared_ptr<SaveJob>& job) {
  std::lock_guard lock(mutex_);
  auto place = waiting_.end();
  if (job->urgent && !job->team) {
    place = std::ranges::find_if(waiting_, [](const auto& other) { return !other->urgent; });
  }
  place = waiting_.insert(place, job);
  try {
    steps_.insert(job->step);
  } catch (...) {
    waiting_.erase(place);
    throw;
  }
}

bool SaveQueue::withdraw(const SaveJob& job) noexcept {
  std::lock_guard lock(mutex_);
  const auto found =
      std::ranges::find_if(waiting_, [&](const auto& other) { return other.get() == &job; });
  if (found == waiting_.end()) return false;
  waiting_.erase(found);
  steps_.erase(steps_.find(job.step));
  return true;
}

std::shared_ptr<SaveJob> SaveQueue::begin_next() {
  std::lock_guard lock(mutex_);
  if (waiting_.empty()) return nullptr;
  auto job = std::move(waiting_.front());
  waiting_.pop_front();
  return job;
}

// The image and the lock are free before anybody is told that the save has ended.
void SaveQueue::release(SaveJob& job) {
  job.capturing.reset();
  job.lock.reset();
  job.unlimited.reset();
  std::lock_guard lock(mutex_);
  steps_.erase(steps_.find(job.step));
}

void SaveQueue::end(SaveJob& job, std::exception_ptr failure) {
  release(job);
  if (is_dropped(failure)) {
    // Who asked for the urgent save has asked for this: no later call throws it.
    std::lock_guard lock(job.ticket->mutex);
    job.ticket->is_seen = true;
  }
  if (failure) {
    job.ticket->set_failed(std::move(failure));
  } else {
    job.ticket->set_done();
  }
}

void SaveQueue::drop_waiting(std::int64_t urgent_step) {
  std::deque<std::shared_ptr<SaveJob>> dropped;
  {
    std::lock_guard lock(mutex_);
    for (auto& job : std::exchange(waiting_, {})) (job->urgent ? waiting_ : dropped).push_back(job);
  }
  for (const auto& job : dropped) end_dropped(*job, urgent_step);
}

std::vector<std::uint64_t> SaveQueue::drop_for_all(std::int64_t urgent_step) {
  std::vector<std::shared_ptr<SaveJob>> dropped;
  std::vector<std::uint64_t> numbers;
  {
    std::lock_guard lock(mutex_);
    for (const auto& job : waiting_) {
      if (job->urgent || job->dropped_for) continue;
      job->dropped_for = urgent_step;
      dropped.push_back(job);
      numbers.push_back(job->team->save.number);
    }
  }
  for (const auto& job : dropped) end_dropped(*job, urgent_step);
  return numbers;
}

void SaveQueue::drop_numbers(const std::vector<std::uint64_t>& numbers, std::int64_t urgent_step) {
  std::deque<std::shared_ptr<SaveJob>> dropped;
  {
    std::lock_guard lock(mutex_);
    for (auto& job : std::exchange(waiting_, {})) {
      const bool is_dropped = std::ranges::find(numbers, job->team->save.number) != numbers.end();
      (is_dropped ? dropped : waiting_).push_back(job);
    }
  }
  for (const auto& job : dropped) end_dropped(*job, urgent_step);
}

void SaveQueue::end_dropped(SaveJob& job, std::int64_t urgent_step) {
  end(job, std::make_exception_ptr(DroppedSave(job.step, urgent_step)));
}

}  // namespace understudy
