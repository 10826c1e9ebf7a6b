// Starting threads the way this library needs them: named, with all signals blocked.
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <thread>

namespace understudy {

/// Starts a thread that blocks all signals (they belong to the program's own
/// threads). `name` is cut to 15 characters, which is what the kernel keeps.
/// With `low_priority` the thread yields CPU and disk to everybody else.
/// Throws Error(no_space) when the system has no thread to give.
std::thread start_thread(const std::string& name, bool low_priority, std::function<void()> body);

/// For tests: as if the system refused to start threads, from the `first` start in its
/// scope on (counted from 1), `count` times.
class RefuseThreads {
 public:
  explicit RefuseThreads(int first = 1, int count = std::numeric_limits<int>::max()) noexcept;
  ~RefuseThreads();
  RefuseThreads(const RefuseThreads&) = delete;
  RefuseThreads& operator=(const RefuseThreads&) = delete;

  /// How many were refused.
  int refused() const noexcept;
};

/// From now on the calling thread does not push others off their processor when it
/// is woken, and has a low priority.
void yield_to_others();

}  // namespace understudy
