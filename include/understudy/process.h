// Handles remember the process that made them: in a forked child they are inert.
#pragma once

#include <string_view>

namespace understudy {

/// The process that made a handle.
class HomeProcess {
 public:
  /// The process that makes it is home.
  HomeProcess() noexcept;

  /// False in a process that was forked since.
  bool is_here() const noexcept;
  /// Throws Error(closed) in any other process. `what` begins the sentence.
  void require(std::string_view what) const;

 private:
  int pid_;
};

}  // namespace understudy
