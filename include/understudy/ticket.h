// Ticket: what you wait on.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace understudy {

/// Seconds. Absent means without limit.
using Timeout = std::optional<std::chrono::duration<double>>;

/// Where the time of one save went. Seconds from the call on, so that
/// captured_s and durable_s are moments, and blocked_s is a length.
struct Metrics {
  double blocked_s = 0;      ///< how long the call kept its caller
  double waited_s = 0;       ///< part of it spent waiting for an image or an earlier capture
  double captured_s = 0;     ///< call to complete snapshot
  double durable_s = 0;      ///< call to durable on disk; 0 for a stage or until then
  std::uint64_t nbytes = 0;  ///< bytes of the file, header included
  std::string memory;        ///< what the image is made of and why
  /// Where the plan comes from: "new"; "same", the last one after a walk over the
  /// state; or "again", the last one without a walk.
  std::string plan;
  std::uint64_t at_once_nbytes = 0;  ///< copied before the call returned
  std::uint64_t faults = 0;          ///< writes that waited for a page to be copied
  std::uint64_t faults_nbytes = 0;   ///< copied because a write waited for them
  std::string writer;                ///< which writer was used and why; empty for a stage
  /// A higher step that the folder had at the call: until the saves have passed it, a
  /// resume takes that one. See ResumeOptions::discard_newer.
  std::optional<std::int64_t> newer_step{};
  /// With survive: "sealed", or why what was captured would not outlive the process; empty until
  /// that is known.
  std::string survival{};
  double sealed_s = 0;  ///< call to sealed; 0 until then
  /// What retention could not remove after this save, and why; empty when it removed
  /// all that it should. It is tried again after each save.
  std::string unremoved{};
};

struct TicketState;

/// The part of a ticket that does not depend on its result. All members may be
/// called from any thread. None of them throws the ticket's failure.
class TicketBase {
 public:
  /// For the library's own use.
  explicit TicketBase(std::shared_ptr<TicketState> state) : state_(std::move(state)) {}

  /// True when the work has ended, well or not.
  bool is_done() const;
  /// True when the snapshot is complete (or the work has failed).
  bool is_captured() const;
  /// Blocks until captured or failed; false when the time ran out first.
  bool wait_captured_for(Timeout timeout) const;
  /// Blocks until done; false when the time ran out first.
  bool wait_done_for(Timeout timeout) const;
  /// Bytes done and bytes in all.
  std::pair<std::uint64_t, std::uint64_t> progress() const;
  /// The failure, or null while there is none.
  std::exception_ptr exception() const;
  /// Which capture was used and, if it is not the best, why.
  std::string capture() const;
  /// Where the time went so far.
  Metrics metrics() const;
  /// Counts from an earlier moment: for callers whose own call began before ours.
  void count_from(std::chrono::steady_clock::time_point began) const;

 protected:
  void throw_failure() const;  // after done: rethrows, and marks the failure as seen
  void throw_timeout() const;

  std::shared_ptr<TicketState> state_;
};

/// A ticket whose work gives a `T`.
template <class T>
class Ticket : public TicketBase {
 public:
  /// For the library's own use.
  Ticket(std::shared_ptr<TicketState> state, std::shared_ptr<std::optional<T>> result)
      : TicketBase(std::move(state)), result_(std::move(result)) {}

  /// Blocks until done and gives the result. Throws the failure, or
  /// Error(timeout). May be called again.
  T wait(Timeout timeout = {}) const {
    if (!wait_done_for(timeout)) throw_timeout();
    throw_failure();
    return **result_;
  }

  /// Blocks until the snapshot is complete. Throws the failure, or Error(timeout).
  void wait_captured(Timeout timeout = {}) const {
    if (!wait_captured_for(timeout)) throw_timeout();
    if (exception()) throw_failure();
  }

 private:
  std::shared_ptr<std::optional<T>> result_;
};

}  // namespace understudy
