// The state behind a ticket: written by those who do the work.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>

#include "base/process.h"
#include "understudy/ticket.h"

namespace understudy {

struct TicketState {
  using Clock = std::chrono::steady_clock;

  /// Seconds since the call.
  double elapsed(Clock::time_point now = Clock::now()) const {
    return earlier_s + std::chrono::duration<double>(now - began).count();
  }
  /// Marks the snapshot as complete.
  void set_captured();
  /// Ends the work well. The result must be in place.
  void set_done();
  /// Ends the work with `failure`; the first one counts.
  void set_failed(std::exception_ptr failure);

  const Clock::time_point began = Clock::now();
  std::atomic<double> earlier_s{0};  ///< that the caller's call began before
  HomeProcess home;
  std::atomic<std::uint64_t> done_nbytes{0};
  std::atomic<std::uint64_t> total_nbytes{0};

  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  bool is_captured = false;
  bool is_done = false;
  bool is_seen = false;  ///< the failure was thrown to somebody
  std::exception_ptr failure;
  std::string capture;
  Metrics metrics;
};

}  // namespace understudy
