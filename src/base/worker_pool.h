// Worker threads: started at first use, named, with all signals blocked.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/process.h"

namespace understudy {

/// Threads that share out loops. Used by one caller at a time; a second caller
/// waits. In a forked child it does nothing and must not be asked to.
class WorkerPool {
 public:
  /// `name` is at most 12 characters: the kernel keeps 15, and a number follows.
  WorkerPool(std::string name, int threads, bool low_priority = false);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const noexcept;

  /// Runs body(i, worker) for every i below `count`, on all threads and the
  /// caller's, and returns when all are done. `worker` is below threads().
  /// After the first exception no new i is begun; it is thrown here. With
  /// `low_priority` the caller only waits, so that its priority stays its own.
  /// Where the system refuses threads, fewer do the same work; Error(no_space) when
  /// there is none at all, and then nothing was begun.
  void run(std::uint64_t count, const std::function<void(std::uint64_t i, int worker)>& body);

 private:
  struct State;
  HomePtr<State> state_;
};

}  // namespace understudy
