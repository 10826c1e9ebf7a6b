// How many cores the process leaves idle: what an overlapped capture may take
// without slowing training down.
#pragma once

namespace understudy::stage {

class IdleCores {
 public:
  /// Both in seconds, from any beginning.
  struct Clocks {
    double wall = 0;
    double processor = 0;  ///< of all threads

    static Clocks now();
  };

  /// `cores` is how many the process may use.
  IdleCores(int cores, Clocks now) : cores_(cores), last_(now) {}

  /// The mean since the last call, or since the beginning; from 0 to `cores`.
  double since_last(Clocks now) noexcept;
  int cores() const noexcept { return cores_; }

 private:
  const int cores_;
  Clocks last_;
};

}  // namespace understudy::stage
