#include "stage/page_fence.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/process.h"
#include "base/thread.h"
#include "base/waiting.h"
#include "os/fork.h"
#include "os/system.h"

namespace understudy::stage {
namespace {

// The watch looks this often. It counts looks and not seconds, so that a process
// that was stopped for an hour does not wake up late.
constexpr int kTickMs = 50;
// 5 s. A chunk takes 0.2 ms, and a hundred times that where pages are swapped in
// or threads get no processor; a training loop that waits longer is better off
// without this snapshot.
constexpr int kLateTicks = 100;
// Memory is as fast as it gets with a few threads (measured on 2 cores: 1.5 times
// one thread's speed with two); more would only take processors from the trainer.
constexpr int kMaxCopiers = 8;
// Chunks protected by one job. 64 MiB of small pages take 0.7 ms to protect:
// worth a thread's waking (20 us).
constexpr std::size_t kProtectedTogether = 32;

}  // namespace

struct PageFence::State {
  void start_threads();
  void serve(std::uint32_t round);
  void copy(std::uint32_t round, int copier);
  void watch(std::uint32_t round);
  void keep_watch(Flight& flight);
  void wait_for_leavers(Flight& flight, int ticks);
  void set_stuck(bool is_stuck);
  void stop_threads();
  template <class Work>
  void in_each_flight(std::uint32_t seen, Work work);

  vm::WriteProtection protection;
  os::Event news;       // for the watch
  os::Event interrupt;  // for the server
  std::atomic<int> late_ticks{kLateTicks};

  std::mutex mutex;  // never held while anything is protected by its holder
  std::condition_variable idle;
  bool is_busy = false;   // a turn is taken, or a flight under way
  bool is_stuck = false;  // its threads do not leave

  // Written by who has the turn, before `round`; read by the threads after it.
  std::shared_ptr<Flight> flight;
  std::atomic<std::uint32_t> round{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
};

// Runs `work` once for every flight after the round `seen`, until the end.
template <class Work>
void PageFence::State::in_each_flight(std::uint32_t seen, Work work) {
  for (;;) {
    round.wait(seen, std::memory_order_acquire);
    seen = round.load(std::memory_order_acquire);
    if (stop.load(std::memory_order_relaxed)) return;
    work(*flight);
  }
}

void PageFence::State::copy(std::uint32_t seen, int copier) {
  // Else the copiers would run before the caller that woke them, for as long as a
  // time slice: a call of 1 GiB in huge pages took 6 ms on 2 cores; 3.5 when they do
  // not preempt, because the server does; and 1.8 with a low priority, too.
  yield_to_others();
  in_each_flight(seen, [&](Flight& f) {
    while (copier < f.copiers() && f.copy_next()) {
    }
    f.leave();
  });
}

void PageFence::State::serve(std::uint32_t seen) {
  in_each_flight(seen, [&](Flight& f) {
    std::array<std::uintptr_t, 16> addresses;
    for (;;) {
      const int count = protection.wait_for_writes(addresses, interrupt);
      for (int i = 0; i < count; ++i) f.serve(addresses[static_cast<std::size_t>(i)]);
      if (count < 0) f.fail(Flight::Failure::lost);
      if (count <= 0) break;
    }
    f.leave();
  });
}

void PageFence::State::watch(std::uint32_t seen) {
  in_each_flight(seen, [&](Flight& f) { keep_watch(f); });
}

void PageFence::State::keep_watch(Flight& f) {
  int idle_ticks = 0, unserved_ticks = 0;
  auto done = f.done_nbytes(), faults = f.faults();
  while (!f.has_ended()) {
    if (news.wait(kTickMs)) continue;
    idle_ticks = f.done_nbytes() != done ? 0 : idle_ticks + 1;
    const bool is_served = f.faults() != faults || !protection.has_waiting_writes();
    unserved_ticks = is_served ? 0 : unserved_ticks + 1;
    done = f.done_nbytes(), faults = f.faults();
    if (std::max(idle_ticks, unserved_ticks) >= late_ticks) f.fail(Flight::Failure::late);
  }
  if (f.failure() != Flight::Failure::none) f.lift_all();
  interrupt.set();
  wait_for_leavers(f, 1);  // microseconds, as a rule
  // Sources and target go first: who waited for the outcome finds them free.
  // After a failure the sentence about it still needs the sources.
  if (f.inside == 0) {
    if (f.failure() == Flight::Failure::none) f.sources.reset();
    f.target.reset();
  }
  if (f.on_end) f.on_end(f);
  f.on_end = nullptr;
  if (f.inside != 0) {
    wait_for_leavers(f, late_ticks);
    if (f.inside != 0) set_stuck(true);
    while (f.inside != 0) wait_for_leavers(f, late_ticks);
    f.sources.reset();
  }
  flight.reset();
  interrupt.clear();
  std::lock_guard lock(mutex);
  is_busy = is_stuck = false;
  idle.notify_all();
}

void PageFence::State::wait_for_leavers(Flight& f, int ticks) {
  while (f.inside != 0 && ticks > 0) ticks -= !news.wait(kTickMs);
}

void PageFence::State::set_stuck(bool now) {
  std::lock_guard lock(mutex);
  is_stuck = now;
  idle.notify_all();
}

void PageFence::State::start_threads() {
  if (!threads.empty()) return;
  const auto now = round.load();
  const auto copiers = static_cast<std::size_t>(std::min(os::usable_cores(), kMaxCopiers));
  constexpr std::size_t kOthers = 2;   // the watch and the server
  threads.reserve(kOthers + copiers);  // a started thread must find its place
  try {
    threads.push_back(start_thread("us-fence-watch", false, [=, this] { watch(now); }));
    threads.push_back(start_thread("us-fence-serve", false, [=, this] { serve(now); }));
    for (std::size_t i = 0; i < copiers; ++i) {
      const auto name = fmt::format("us-fence-copy-{}", i);
      threads.push_back(start_thread(name, false, [=, this] { copy(now, static_cast<int>(i)); }));
    }
  } catch (...) {
    // One that copies will do.
    if (threads.size() > kOthers) return;
    stop_threads();
    throw;
  }
}

void PageFence::State::stop_threads() {
  stop = true;
  round.fetch_add(1, std::memory_order_release);
  round.notify_all();
  for (auto& thread : threads) thread.join();
  threads.clear();
  stop = false;
}

PageFence::PageFence() : state_(std::make_unique<State>()) {}

PageFence::~PageFence() {
  auto& s = *state_;
  std::unique_lock lock(s.mutex);
  s.idle.wait(lock, [&] { return !s.is_busy || s.is_stuck; });
  if (s.is_stuck) {
    lock.unlock();
    (void)state_.release();  // a thread still looks into it
    return;
  }
  lock.unlock();
  s.stop_threads();
}

void PageFence::set_late_ticks(int ticks) {
  state_->late_ticks = ticks;
}

std::unique_ptr<PageFence::Turn> PageFence::take_turn(std::string& why_not) {
  auto& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.is_stuck) {
    why_not = "threads of an earlier overlapped capture do not answer";
    return nullptr;
  }
  if (s.is_busy) return nullptr;
  if (why_not = s.protection.why_not(); !why_not.empty()) return nullptr;
  s.start_threads();
  s.is_busy = true;
  return std::make_unique<Turn>(*this);
}

void PageFence::wait_for_turn(double& waited_s) {
  auto& s = *state_;
  const auto began = std::chrono::steady_clock::now();
  std::unique_lock lock(s.mutex);
  wait_awake(lock, s.idle, [&] { return !s.is_busy || s.is_stuck; });
  waited_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

PageFence::Turn::~Turn() {
  if (is_over_) return;
  if (protected_) protected_->lift_all();
  auto& s = *fence_.state_;
  std::lock_guard lock(s.mutex);
  s.is_busy = false;
  s.idle.notify_all();
}

bool PageFence::Turn::add(std::uintptr_t begin, std::uintptr_t end) {
  return fence_.state_->protection.add(begin, end);
}

std::shared_ptr<Flight> PageFence::Turn::protect(std::vector<PageRun> runs, int copiers,
                                                 WorkerPool& workers) {
  auto& s = *fence_.state_;
  protected_ = std::make_shared<Flight>(s.protection, s.news, std::move(runs), copiers);
  auto& flight = *protected_;
  std::atomic<bool> is_refused{false};
  const auto jobs = (flight.chunks() + kProtectedTogether - 1) / kProtectedTogether;
  workers.run(jobs, [&](std::uint64_t job, int) {
    if (!is_refused && !flight.protect(job * kProtectedTogether, kProtectedTogether)) {
      is_refused = true;
    }
  });
  if (is_refused) {
    flight.lift_all();
    protected_.reset();
  }
  return protected_;
}

void PageFence::Turn::begin() {
  auto& s = *fence_.state_;
  protected_->inside = static_cast<int>(s.threads.size()) - 1;  // the watch stays to the end
  s.flight = std::move(protected_);
  is_over_ = true;
  s.round.fetch_add(1, std::memory_order_release);
  s.round.notify_all();
}

namespace {

// Who shares the fence. The mutex is held around fork, so that a child never
// inherits a descriptor that is not written down here.
struct Registry {
  std::mutex mutex;
  PageFence* fence = nullptr;
  int shares = 0;
  bool knows_forks = false;
};

Registry& registry() {
  static auto* const one = new Registry;  // never ends: forks may come at any time
  return *one;
}

}  // namespace

void PageFence::Share::before_fork() {
  registry().mutex.lock();
}

void PageFence::Share::after_fork_in_parent() {
  registry().mutex.unlock();
}

void PageFence::Share::after_fork_in_child() {
  auto& r = registry();
  if (r.fence != nullptr) {
    r.fence->state_->protection.abandon();
    r.fence->state_->news.abandon();
    r.fence->state_->interrupt.abandon();
  }
  r.fence = nullptr;  // the parent's; its memory stays as it is
  r.shares = 0;
  r.mutex.unlock();
}

PageFence::Share::Share() {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  if (!r.knows_forks) {
    os::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    r.knows_forks = true;
  }
  if (r.fence == nullptr) r.fence = new PageFence;
  fence_ = r.fence;
  ++r.shares;
}

PageFence::Share::~Share() {
  if (!home_.is_here()) return;
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  if (--r.shares > 0) return;
  delete fence_;
  r.fence = nullptr;
}

}  // namespace understudy::stage
