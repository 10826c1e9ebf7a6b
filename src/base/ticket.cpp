#include "base/ticket.h"

#include <algorithm>

#include "base/error.h"
#include "base/waiting.h"

namespace understudy {
namespace {

template <class Ready>
bool wait_until(const TicketState& state, Timeout timeout, Ready ready) {
  state.home.require("a ticket");
  std::unique_lock lock(state.mutex);
  return wait_awake(lock, state.changed, ready, timeout);
}

}  // namespace

void TicketState::set_captured() {
  {
    std::lock_guard lock(mutex);
    is_captured = true;
    metrics.captured_s = elapsed();
  }
  changed.notify_all();
}

void TicketState::set_done() {
  {
    std::lock_guard lock(mutex);
    is_done = true;
  }
  changed.notify_all();
}

void TicketState::set_failed(std::exception_ptr why) {
  {
    std::lock_guard lock(mutex);
    if (!failure) failure = std::move(why);
    is_done = true;
  }
  changed.notify_all();
}

bool TicketBase::is_done() const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  return state_->is_done;
}

bool TicketBase::is_captured() const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  return state_->is_captured || state_->is_done;
}

bool TicketBase::wait_captured_for(Timeout timeout) const {
  return wait_until(*state_, timeout, [&] { return state_->is_captured || state_->is_done; });
}

bool TicketBase::wait_done_for(Timeout timeout) const {
  return wait_until(*state_, timeout, [&] { return state_->is_done; });
}

std::pair<std::uint64_t, std::uint64_t> TicketBase::progress() const {
  state_->home.require("a ticket");
  const auto total = state_->total_nbytes.load(std::memory_order_relaxed);
  return {std::min(state_->done_nbytes.load(std::memory_order_relaxed), total), total};
}

std::exception_ptr TicketBase::exception() const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  return state_->failure;
}

std::string TicketBase::capture() const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  return state_->capture;
}

void TicketBase::count_from(std::chrono::steady_clock::time_point began) const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  const auto earlier_s = std::chrono::duration<double>(state_->began - began).count();
  state_->earlier_s = earlier_s;
  auto& metrics = state_->metrics;
  metrics.blocked_s += earlier_s;
  for (auto* known : {&metrics.captured_s, &metrics.durable_s}) {
    if (*known > 0) *known += earlier_s;
  }
}

Metrics TicketBase::metrics() const {
  state_->home.require("a ticket");
  std::lock_guard lock(state_->mutex);
  return state_->metrics;
}

void TicketBase::throw_failure() const {
  std::unique_lock lock(state_->mutex);
  if (!state_->failure) return;
  state_->is_seen = true;
  const auto failure = state_->failure;
  lock.unlock();
  std::rethrow_exception(failure);
}

void TicketBase::throw_timeout() const {
  const auto [done, total] = progress();
  fail(ErrorCode::timeout, "the time given to wait ran out with {} of {} bytes done", done, total);
}

}  // namespace understudy
