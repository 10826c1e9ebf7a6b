#include "base/task_thread.h"

#include <gtest/gtest.h>

#include <latch>

#include "base/thread.h"
#include "fakes/expect_error.h"

namespace understudy {
namespace {

TEST(TaskThread, ATaskThatWasRefusedItsThreadIsNeverRun) {
  bool is_first_run = false;
  std::latch done{1};
  TaskThread tasks("us-test");
  {
    const RefuseThreads refused(1, 1);
    fakes::expect_error(ErrorCode::no_space, "cannot start the thread 'us-test'",
                        [&] { tasks.post([&] { is_first_run = true; }); });
  }
  tasks.post([&] { done.count_down(); });
  done.wait();
  EXPECT_FALSE(is_first_run);
}

}  // namespace
}  // namespace understudy
