#include "base/process.h"

#include <unistd.h>

#include "base/error.h"

namespace understudy {

HomeProcess::HomeProcess() noexcept : pid_(getpid()) {}

bool HomeProcess::is_here() const noexcept {
  return getpid() == pid_;
}

void HomeProcess::require(std::string_view what) const {
  if (is_here()) return;
  fail(ErrorCode::closed,
       "{} belongs to process {} and cannot be used in process {}, which was forked from it; "
       "make a new one there",
       what, pid_, getpid());
}

}  // namespace understudy
