// Handles remember their process: in a forked child they are inert.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <string_view>

#include "base/error.h"

namespace understudy {

/// The process that made a handle.
class HomeProcess {
 public:
  bool is_here() const noexcept { return getpid() == pid_; }
  /// Throws Error(closed) in any other process. `what` begins the sentence.
  void require(std::string_view what) const {
    if (!is_here()) {
      fail(ErrorCode::closed,
           "{} belongs to process {} and cannot be used in process {}, which was forked from it; "
           "make a new one there",
           what, pid_, getpid());
    }
  }

 private:
  pid_t pid_ = getpid();
};

}  // namespace understudy
