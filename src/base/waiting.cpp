#include "base/waiting.h"

#include <utility>

namespace understudy {
namespace {

thread_local WhileWaiting* innermost = nullptr;

}  // namespace

WhileWaiting::WhileWaiting(std::function<void()> look)
    : look_(std::move(look)), outer_(std::exchange(innermost, this)) {}

WhileWaiting::~WhileWaiting() {
  innermost = outer_;
}

bool WaitLook::is_wanted() noexcept {
  return innermost != nullptr;
}

void WaitLook::look() {
  if (innermost != nullptr) innermost->look_();
}

}  // namespace understudy
