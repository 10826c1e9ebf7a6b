// One thread that runs tasks in order.
#pragma once

#include <functional>
#include <string>

#include "base/process.h"

namespace understudy {

/// Started at the first task. In a forked child it does nothing.
class TaskThread {
 public:
  explicit TaskThread(std::string name);
  ~TaskThread();  ///< runs what was posted, then ends
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  /// Starts the thread, if it is not there yet. After it only memory can be
  /// missing for a task. Throws Error(no_space).
  void start();
  /// `task` must not throw. When this throws, the task will not run.
  void post(std::function<void()> task);

 private:
  struct State;
  HomePtr<State> state_;
};

}  // namespace understudy
