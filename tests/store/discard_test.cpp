#include "store/discard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "store/folder_lock.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;

using fakes::FaultMode;
using fakes::FaultyCalls;
using testing::ElementsAre;

class Discard : public testing::Test {
 protected:
  Discard() {
    for (const int step : {1, 2, 10, 30}) run_.commit(step, 1);
  }
  RunFolder run_;
};

TEST_F(Discard, TakesWhatIsNewerWhateverItsCondition) {
  fs::resize_file(run_ / "step-30" / kShardName, 10);
  fs::create_directory_symlink("step-1", run_ / "step-40");
  fakes::write_text(run_ / "step-50", "a file of somebody's");
  const auto lock = lock_folder(run_.path());
  EXPECT_EQ(highest_step(lock->directory()), 40);
  EXPECT_THAT(discard_newer(*lock, 2), ElementsAre(10, 30, 40));
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-2", "step-50"));
  EXPECT_EQ(highest_step(lock->directory()), 2);
  EXPECT_THAT(discard_newer(*lock, 2), ElementsAre());
  run_.expect_step(1, 1);
}

// A process that is killed before any of its system calls: what is left is a run whose newest
// step is of the old future still, or the one that was asked for; and once the call has returned,
// only that.
TEST_F(Discard, AKillAtAnyCallLeavesWholeSteps) {
  for (int nth = 1;; ++nth) {
    RunFolder run(fakes::memory_folder());
    fs::copy(run_.path(), run.path(), fs::copy_options::recursive);
    const int status = fakes::in_child([&] {
      const FaultyCalls faults({.mode = FaultMode::exit, .nth = nth});
      const auto lock = lock_folder(run.path());
      discard_newer(*lock, 2);
      return 7;
    });
    lock_folder(run.path());  // clears what the dead process left
    const auto steps = run.steps();
    const std::vector<std::vector<std::int64_t>> allowed = {{1, 2, 10, 30}, {1, 2, 10}, {1, 2}};
    EXPECT_THAT(allowed, testing::Contains(steps)) << "call " << nth;
    EXPECT_EQ(run.names().size(), steps.size()) << "call " << nth;
    for (const auto step : steps) run.expect_step(step, 1);
    if (status == 7) {
      EXPECT_GT(nth, 10);
      EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2}));
      break;
    }
  }
}

TEST_F(Discard, AStepThatCannotBeRenamedIsAnError) {
  const auto lock = lock_folder(run_.path());
  {
    const FaultyCalls faults(
        {.mode = FaultMode::fail, .nth = 2, .error = EPERM, .call = "renameat"});
    fakes::expect_error(ErrorCode::io, "step-10", [&] { discard_newer(*lock, 2); });
  }
  EXPECT_EQ(run_.steps(), (std::vector<std::int64_t>{1, 2, 10}));
  run_.commit(11, 1);  // clears
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-10", "step-11", "step-2"));
}

TEST_F(Discard, ASyncThatFailsIsAnError) {
  const auto lock = lock_folder(run_.path());
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EIO, .call = "fsync"});
  fakes::expect_error(ErrorCode::io, "sync", [&] { discard_newer(*lock, 2); });
}

}  // namespace
}  // namespace understudy::store
