// How far long work has come.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace understudy::cli {

/// One line on standard error that is written over. Only when that is a
/// terminal, and only once the work has taken a second.
class ProgressLine {
 public:
  explicit ProgressLine(std::string what);
  ~ProgressLine();  ///< takes the line away
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// In the form of understudy::Progress, with the line as its context.
  static void update(void* line, std::uint64_t done, std::uint64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  bool is_terminal_;
  bool is_shown_ = false;
  Clock::time_point next_;
};

}  // namespace understudy::cli
