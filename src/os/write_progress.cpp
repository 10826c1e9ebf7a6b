#include "os/write_progress.h"

#include <chrono>
#include <thread>

#include "base/error.h"
#include "os/failure.h"

namespace understudy::os {

namespace {

// A direct write that stops inside a unit begins it again. A file system that
// never gets past it, or is never ready, must not hold us for ever.
constexpr int kMaxVainCalls = 8;
// What was not ready is asked again after this long: with the above about 10 ms
// in all, longer than a queue of requests takes to drain.
constexpr std::chrono::milliseconds kBeforeNextTry{1};

}  // namespace

void WriteProgress::advance(std::int64_t count, int error) {
  if (count < 0 && error == EINTR) return;
  if (count < 0 && error == EAGAIN && ++vain_ < kMaxVainCalls) {
    std::this_thread::sleep_for(kBeforeNextTry);
    return;
  }
  if (count < 0) fail_call("write", file_->name(), error);
  const std::uint64_t unit = file_->is_direct() ? kDirectUnit : 1;
  const std::uint64_t whole = static_cast<std::uint64_t>(count) / unit * unit;
  vain_ = whole == 0 ? vain_ + 1 : 0;
  if (count == 0 || vain_ == kMaxVainCalls) {
    fail(ErrorCode::io, "cannot write {}: the system took {} of {} bytes at offset {}",
         file_->name(), count, rest_.size(), offset_);
  }
  offset_ += whole;
  rest_ = rest_.subspan(whole);
}

}  // namespace understudy::os
