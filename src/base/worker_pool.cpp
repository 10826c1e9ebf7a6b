// One loop at a time. The caller publishes a loop under the mutex and wakes the
// workers; each takes the next index from an atomic until none is left. The
// last one out wakes the caller, who does not wait for those that never came: where
// a processor is taken, by threads of OpenMP that spin for example, a worker may
// come milliseconds after all is done, and finds no loop.
#include "base/worker_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/process.h"
#include "base/thread.h"

namespace understudy {

struct WorkerPool::State {
  State(std::string name, int threads, bool low_priority)
      : name(std::move(name)), threads(threads), low_priority(low_priority) {}

  void start();
  void serve(int worker);
  void work(int worker) noexcept;

  const std::string name;
  const int threads;
  const bool low_priority;
  HomeProcess home;

  std::mutex callers;  // one loop at a time
  std::mutex mutex;
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  std::uint64_t round = 0;
  int inside = 0;  // workers in the loop in progress
  bool stop = false;

  // The loop in progress; null when there is none.
  const std::function<void(std::uint64_t, int)>* body = nullptr;
  std::uint64_t count = 0;
  std::atomic<std::uint64_t> next{0};
  std::exception_ptr failure;
};

// Where the system refuses some, the loop is run by those that there are, and the next
// one asks again.
void WorkerPool::State::start() {
  const int helpers = low_priority ? threads : threads - 1;
  workers.reserve(static_cast<std::size_t>(helpers));  // a started thread must find its place
  try {
    while (static_cast<int>(workers.size()) < helpers) {
      // The caller is worker 0 unless it only waits.
      const int worker = static_cast<int>(workers.size()) + (low_priority ? 0 : 1);
      workers.push_back(start_thread(fmt::format("{}-{}", name, worker), low_priority,
                                     [this, worker] { serve(worker); }));
    }
  } catch (const Error&) {
    const bool is_anybody_there = !low_priority || !workers.empty();
    if (!is_anybody_there) throw;
  }
}

void WorkerPool::State::serve(int worker) {
  std::uint64_t seen = 0;
  std::unique_lock lock(mutex);
  for (;;) {
    wake.wait(lock, [&] { return stop || round != seen; });
    if (stop) return;
    seen = round;
    if (body == nullptr) continue;
    ++inside;
    lock.unlock();
    work(worker);
    lock.lock();
    if (--inside == 0) finished.notify_one();
  }
}

void WorkerPool::State::work(int worker) noexcept {
  for (;;) {
    const auto i = next.fetch_add(1, std::memory_order_relaxed);
    if (i >= count) return;
    try {
      (*body)(i, worker);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      next.store(count, std::memory_order_relaxed);
    }
  }
}

WorkerPool::WorkerPool(std::string name, int threads, bool low_priority)
    : state_(make_home<State>(std::move(name), std::max(threads, 1), low_priority)) {}

WorkerPool::~WorkerPool() {
  if (!state_->home.is_here()) return;
  {
    std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->wake.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

int WorkerPool::threads() const noexcept {
  return state_->threads;
}

void WorkerPool::run(std::uint64_t count, const std::function<void(std::uint64_t, int)>& body) {
  auto& s = *state_;
  s.home.require("a worker pool");
  if (count == 0) return;
  std::lock_guard caller(s.callers);
  if (count == 1 && !s.low_priority) return body(0, 0);
  std::unique_lock lock(s.mutex);
  s.start();
  s.body = &body;
  s.count = count;
  s.next.store(0, std::memory_order_relaxed);
  s.failure = nullptr;
  ++s.round;
  lock.unlock();
  s.wake.notify_all();
  if (!s.low_priority) s.work(0);
  lock.lock();
  s.finished.wait(
      lock, [&] { return s.inside == 0 && s.next.load(std::memory_order_relaxed) >= s.count; });
  s.body = nullptr;
  if (s.failure) std::rethrow_exception(std::exchange(s.failure, nullptr));
}

}  // namespace understudy
