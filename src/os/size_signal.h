// Writing past a limit on the size of files without a signal.
#pragma once

#include <signal.h>

namespace understudy::os {

/// While this lives, a call of this thread that goes past RLIMIT_FSIZE only
/// fails, with EFBIG. Without it the thread also gets SIGXFSZ, which ends a
/// program that does not ignore it.
class NoSizeSignal {
 public:
  NoSizeSignal() noexcept;
  ~NoSizeSignal();  ///< keeps errno
  NoSizeSignal(const NoSizeSignal&) = delete;
  NoSizeSignal& operator=(const NoSizeSignal&) = delete;

 private:
  sigset_t before_;
  bool was_pending_;
};

}  // namespace understudy::os
