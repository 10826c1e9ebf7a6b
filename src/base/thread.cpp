#include "base/thread.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

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

}  // namespace

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
