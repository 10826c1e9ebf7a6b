#include "os/size_signal.h"

#include <pthread.h>

#include <cerrno>
#include <ctime>

namespace understudy::os {

namespace {

sigset_t only_size_signal() noexcept {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGXFSZ);
  return set;
}

bool is_pending() noexcept {
  sigset_t pending;
  return sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1;
}

}  // namespace

NoSizeSignal::NoSizeSignal() noexcept : was_pending_(is_pending()) {
  const sigset_t set = only_size_signal();
  pthread_sigmask(SIG_BLOCK, &set, &before_);
}

NoSizeSignal::~NoSizeSignal() {
  const int error = errno;
  // One that came before is somebody else's to get.
  if (!was_pending_ && is_pending()) {
    const sigset_t set = only_size_signal();
    constexpr timespec kNow{};
    sigtimedwait(&set, nullptr, &kNow);
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  errno = error;
}

}  // namespace understudy::os
