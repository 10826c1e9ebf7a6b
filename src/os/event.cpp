#include "os/event.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "os/calls.h"
#include "os/failure.h"

namespace understudy::os {

Event::Event() : fd_(calls().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (fd_ < 0) fail_call("make", "an event", errno);
}

Event::~Event() {
  calls().close(fd_);
}

void Event::abandon() noexcept {
  // Not by the table, which tests may have replaced in the parent.
  ::close(fd_);
}

void Event::set() noexcept {
  const std::uint64_t one = 1;
  // Refused only when it is set 2^64 - 1 times already.
  (void)calls().write(fd_, &one, sizeof one);
}

bool Event::wait(int timeout_ms) noexcept {
  pollfd entry{fd_, POLLIN, 0};
  if (timeout_ms != 0 && calls().poll(&entry, 1, timeout_ms) <= 0) return false;
  std::uint64_t count = 0;
  return calls().read(fd_, &count, sizeof count) == sizeof count;
}

}  // namespace understudy::os
