// One name for two steps: replaced only with leave, and then never lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "store/commit.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::FaultMode;
using fakes::FaultyCalls;
using testing::ElementsAre;

const CommitOptions kOverwrite{.overwrite = true, .keep = {}};

TEST(Overwrite, ReplacesTheStep) {
  RunFolder run;
  run.commit(3, 1);
  run.commit(4, 2);
  run.commit(3, 9, kOverwrite);
  run.commit(5, 5, kOverwrite);  // nothing there to replace
  run.expect_step(3, 9);
  run.expect_step(4, 2);
  EXPECT_THAT(run.names(), ElementsAre("step-3", "step-4", "step-5"));
}

TEST(Overwrite, NeverLeavesTheNameEmpty) {
  RunFolder run;
  run.commit(3, 1);
  const FaultyCalls counting({});
  run.commit(3, 2, kOverwrite);
  const auto log = counting.log();
  EXPECT_EQ(std::ranges::count(log, "renameat2"), 1);
  EXPECT_EQ(std::ranges::count(log, "renameat"), 0);
}

TEST(Overwrite, WithoutExchangeRenamesTwice) {
  RunFolder run;
  run.commit(3, 1);
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EINVAL, .call = "renameat2"});
    run.commit(3, 2, kOverwrite);
    EXPECT_TRUE(faults.was_reached());
  }
  run.expect_step(3, 2);
  EXPECT_THAT(run.names(), ElementsAre("step-3"));
}

TEST(Overwrite, ReplacesADamagedStep) {
  RunFolder run;
  run.commit(3, 1);
  fs::remove(run / "step-3/checkpoint.json");
  expect_error(ErrorCode::invalid, "step 3", [&] { run.commit(3, 2); });
  run.commit(3, 2, kOverwrite);
  run.expect_step(3, 2);
}

/// Renames as file systems do that know no flags, and no links.
os::Calls plain_renames() {
  os::Calls table = os::system_calls();
  table.renameat2 = [](int, const char*, int, const char*, unsigned) {
    errno = EINVAL;
    return -1;
  };
  table.linkat = [](int, const char*, int, const char*, int) {
    errno = EPERM;
    return -1;
  };
  return table;
}

/// As an overlay does whose lower layer has step 3.
os::Calls step_3_cannot_be_renamed() {
  os::Calls table = os::system_calls();
  table.renameat = [](int from_dir, const char* from, int to_dir, const char* to) {
    if (from != std::string("step-3")) return ::renameat(from_dir, from, to_dir, to);
    errno = EXDEV;
    return -1;
  };
  table.renameat2 = [](int from_dir, const char* from, int to_dir, const char* to, unsigned flags) {
    if ((flags & RENAME_EXCHANGE) == 0) return ::renameat2(from_dir, from, to_dir, to, flags);
    errno = EXDEV;
    return -1;
  };
  return table;
}

TEST(Overwrite, StepThatAppearsMeanwhileIsNotReplaced) {
  for (const os::Calls& table : {os::system_calls(), plain_renames()}) {
    RunFolder run;
    const os::ReplaceCalls replaced(table);
    expect_error(ErrorCode::invalid, "step 3 is there already", [&] {
      run.commit_during(3, 1, {}, [&] {
        fs::create_directory(run / "step-3");
        fakes::write_text(run / "step-3/precious", "the only copy");
      });
    });
    EXPECT_EQ(fakes::read_text(run / "step-3/precious"), "the only copy");
    EXPECT_THAT(run.names(), ElementsAre("step-3"));
  }
}

TEST(Overwrite, FileThatAppearsMeanwhileIsNotReplaced) {
  for (const os::Calls& table : {os::system_calls(), plain_renames()}) {
    RunFolder run;
    const os::ReplaceCalls replaced(table);
    expect_error(ErrorCode::invalid, "step 3 is there already", [&] {
      run.commit_during(3, 1, {}, [&] { fakes::write_text(run / "step-3", "somebody's"); });
    });
    EXPECT_THAT(run.names(), ElementsAre("step-3"));
  }
}

TEST(Overwrite, StepThatComesOrGoesMeanwhileIsOverwrittenWhenAskedFor) {
  for (const os::Calls& table : {os::system_calls(), plain_renames()}) {
    RunFolder run;
    const os::ReplaceCalls replaced(table);
    run.commit_during(3, 1, kOverwrite, [&] { fs::create_directory(run / "step-3"); });
    run.expect_step(3, 1);
    run.commit_during(3, 2, kOverwrite, [&] { fs::remove_all(run / "step-3"); });
    run.expect_step(3, 2);
    EXPECT_THAT(run.names(), ElementsAre("step-3"));
  }
}

TEST(Overwrite, OfAStepThatCannotBeRenamedRemovesIt) {
  RunFolder run;
  run.commit(3, 1);
  run.commit(4, 4);
  const os::Calls table = step_3_cannot_be_renamed();
  const os::ReplaceCalls replaced(table);
  run.commit(3, 2, kOverwrite);
  run.expect_step(3, 2);
  EXPECT_THAT(run.names(), ElementsAre("step-3", "step-4"));
}

TEST(Overwrite, ByRemovalLeavesAWholeStepWhereverTheProcessEnds) {
  const os::Calls table = step_3_cannot_be_renamed();
  for (int nth = 1;; ++nth) {
    SCOPED_TRACE("call " + std::to_string(nth));
    RunFolder run(fakes::memory_folder());
    run.commit(3, 1);
    const int status = fakes::in_child([&] {
      const FaultyCalls faults({.mode = FaultMode::exit, .nth = nth}, table);
      run.commit(3, 2, kOverwrite);
      return 0;
    });
    ASSERT_TRUE(status == 0 || status == fakes::kFaultExit) << status;
    run.commit(5, 5);  // clears
    EXPECT_THAT(run.names(), ElementsAre("step-3", "step-5"));
    const bool is_new = run.has_bytes(3, 2);
    run.expect_step(3, is_new ? 2 : 1);
    if (testing::Test::HasFailure()) return;
    if (status == 0) {
      EXPECT_TRUE(is_new);
      return;
    }
  }
}

TEST(Overwrite, FailedOverwriteByRemovalIsCompletedByTheNextSave) {
  RunFolder run;
  run.commit(3, 1);
  {
    const os::Calls table = step_3_cannot_be_renamed();
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 1, .error = EIO, .call = "unlinkat"},
                             table);
    expect_error(ErrorCode::io, "step-3", [&] { run.commit(3, 2, kOverwrite); });
    EXPECT_TRUE(faults.was_reached());
  }
  run.commit(5, 5);
  run.expect_step(3, 2);
  EXPECT_THAT(run.names(), ElementsAre("step-3", "step-5"));
}

TEST(Overwrite, IsAtNoMomentOpenToMorePeople) {
  RunFolder run;
  run.commit(3, 1);
  fs::permissions(run / "step-3", fs::perms(0700));
  run.commit_during(3, 2, kOverwrite, [&] {
    for (const std::string& name : run.names()) {
      EXPECT_EQ(fs::status(run / name).permissions(), fs::perms(0700)) << name;
    }
  });
  EXPECT_EQ(fs::status(run / "step-3").permissions(), fs::perms(0700));
}

}  // namespace
}  // namespace understudy::store
