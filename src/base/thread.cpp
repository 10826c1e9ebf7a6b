#include "base/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace understudy {
namespace {

// Numbers of ioprio_set(2), which has no header of its own.
constexpr int kIoPriorityWhoProcess = 1;
constexpr int kIoPriorityBestEffortLowest = (2 << 13) | 7;
// Nice 10: a tenth of a normal thread's share when cores are short, and still
// enough to finish (19 can starve for seconds beside a busy trainer).
constexpr int kLowNice = 10;

void lower_this_thread() {
  const auto thread = static_cast<id_t>(syscall(SYS_gettid));
  // Both are courtesies: refusal costs nothing but speed of others.
  (void)setpriority(PRIO_PROCESS, thread, kLowNice);
  (void)syscall(SYS_ioprio_set, kIoPriorityWhoProcess, thread, kIoPriorityBestEffortLowest);
}

// What RefuseThreads has asked for.
constexpr int kNever = std::numeric_limits<int>::max();
std::atomic<int> starts_left{kNever};  // before the first that is refused
std::atomic<int> refusals_left{0}, refusals{0};

void refuse_if_asked() {
  if (starts_left.load() == kNever || starts_left.fetch_sub(1) > 0) return;
  starts_left = 0;
  if (refusals_left.fetch_sub(1) <= 0) {
    starts_left = kNever;
    return;
  }
  ++refusals;
  throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
}

}  // namespace

RefuseThreads::RefuseThreads(int first, int count) noexcept {
  refusals = 0;
  refusals_left = count;
  starts_left = first - 1;
}

RefuseThreads::~RefuseThreads() {
  starts_left = kNever;
}

int RefuseThreads::refused() const noexcept {
  return refusals;
}

void yield_to_others() {
  lower_this_thread();
  const sched_param none{};
  // A courtesy: refusal costs the others a few milliseconds.
  (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
}

std::thread start_thread(const std::string& name, bool low_priority, std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  std::string refused;
  try {
    refuse_if_asked();
    thread = std::thread([body = std::move(body), short_name = name.substr(0, 15), low_priority] {
      pthread_setname_np(pthread_self(), short_name.c_str());
      if (low_priority) lower_this_thread();
      body();
    });
  } catch (const std::system_error& e) {
    refused = e.what();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!thread.joinable()) {
    fail(ErrorCode::no_space, "cannot start the thread '{}': {}", name, refused);
  }
  return thread;
}

}  // namespace understudy
