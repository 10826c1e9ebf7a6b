// Exchanges that know what they are about: over Peers, which only carries bytes.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "understudy/error.h"
#include "understudy/peers.h"

namespace understudy::ranks {

/// What an exchange is about. All ranks must mean the same by a lane and a number.
struct Topic {
  Peers::Lane lane = Peers::Lane::calls;
  std::uint64_t number = 0;
  std::string what;       ///< "save"
  std::int64_t step = 0;  ///< of the checkpoint; -1 where there is none
};

/// "the save of step 7", "the resume"
std::string to_text(const Topic& topic);

/// What one rank has said.
struct Answer {
  bool has_come = false;
  std::optional<ErrorCode> failure;  ///< it failed; then `text` says how
  std::string text;                  ///< else what it gave
};

/// Exchanges messages with the other ranks. Each says what it is about, so that ranks that are at
/// different calls find out instead of taking one thing for another; and a rank that failed says
/// so, which the others need not wait for. No state of its own.
class Exchanger {
 public:
  /// `peers` must outlive it. Ranks that have not come after `timeout` are missing.
  Exchanger(Peers& peers, std::chrono::duration<double> timeout)
      : peers_(peers), timeout_(timeout) {}

  /// The answers of the ranks that are wanted, by rank. Throws Error(invalid) when one is at
  /// another topic, naming it, and Error(corrupt) for what is no message of ours.
  std::vector<Answer> ask(const Topic& topic, std::string_view mine,
                          Peers::Want want = Peers::Want::all) const;
  /// The same of a rank that has failed.
  std::vector<Answer> tell_failure(const Topic& topic, const std::exception& failure,
                                   Peers::Want want = Peers::Want::all) const;

  /// The texts of all, by rank, if all have come and none has failed. Else throws one Error, the
  /// same on every rank that got the same answers: that of the first rank that failed ("rank 3: "
  /// before it), or Error(timeout) that names the missing ranks and what was waited for.
  std::vector<std::string> require_all(const Topic& topic, std::vector<Answer> answers) const;
  /// The same of rank 0 alone: its text.
  std::string require_first(const Topic& topic, std::vector<Answer> answers) const;

 private:
  std::vector<Answer> exchange(const Topic& topic, const std::string& message,
                               Peers::Want want) const;
  [[noreturn]] void fail_missing(const Topic& topic, const std::vector<int>& ranks) const;

  Peers& peers_;
  std::chrono::duration<double> timeout_;
};

}  // namespace understudy::ranks
