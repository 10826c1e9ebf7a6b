#include "store/commit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::FaultMode;
using fakes::FaultyCalls;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(Commit, MakesAStepThatIsWhole) {
  RunFolder run;
  const Committed committed = run.commit(7, 1);
  EXPECT_EQ(committed.path, run / "step-7");
  EXPECT_THAT(run.names(), ElementsAre("step-7"));
  run.expect_step(7, 1);
  EXPECT_THAT(os::Directory::open(committed.path).list(),
              ElementsAre("checkpoint.json", kShardName));
}

TEST(Commit, KeepsMetadataAndTime) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  Writer writer;
  fakes::Shard shard = fakes::small_shard(1);
  std::atomic<std::uint64_t> done = 0;
  commit_step(*lock, 0, shard, R"({"loss":0.1})", writer, {}, &done);
  const Manifest manifest = *look_at_step(run / "step-0").manifest;
  EXPECT_EQ(manifest.metadata_json, R"({"loss":0.1})");
  EXPECT_THAT(manifest.time, testing::MatchesRegex("20..-..-..T..:..:..Z"));
  EXPECT_EQ(done, manifest.files[0].nbytes);
}

TEST(Commit, EmptyShardIsAStep) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  Writer writer;
  fakes::Shard shard({});
  commit_step(*lock, 1, shard, "null", writer, {});
  EXPECT_TRUE(verify_step(run / "step-1").damage.empty());
  EXPECT_EQ(open_step(look_at_step(run / "step-1")).header().entries.size(), 0u);
}

TEST(Commit, FollowsItsNumbers) {
  RunFolder run;
  run.commit(1, 1);
  const FaultyCalls counting({});
  run.commit(2, 2);
  // 1. reserve; 3. fsync of the shard, 4. of the manifest, 5. of the folder;
  // 6. rename; 7. fsync of the parent.
  EXPECT_EQ(durable_order(counting), "1 s s s 6 s ");
}

TEST(Commit, StepThatExistsIsAnErrorAndStays) {
  RunFolder run;
  run.commit(3, 1);
  expect_error(ErrorCode::invalid, "step 3 is there already: " + (run / "step-3").string(),
               [&] { run.commit(3, 2); });
  expect_error(ErrorCode::invalid, "step 3",
               [&] { require_new_step(os::Directory::open(run.path()), 3); });
  require_new_step(os::Directory::open(run.path()), 4);
  run.expect_step(3, 1);
  EXPECT_THAT(run.names(), ElementsAre("step-3"));
}

TEST(Commit, NegativeStepsAreInvalid) {
  RunFolder run;
  expect_error(ErrorCode::invalid, "step -1", [&] { run.commit(-1, 1); });
  expect_error(ErrorCode::invalid, "step -1",
               [&] { require_new_step(os::Directory::open(run.path()), -1); });
  EXPECT_THAT(run.names(), IsEmpty());
}

TEST(Commit, MissingFolderIsNotFound) {
  RunFolder run;
  expect_error(ErrorCode::not_found, "none", [&] { lock_folder(run / "none"); });
  expect_error(ErrorCode::not_found, "none", [&] { look_at_steps(run / "none"); });
}

TEST(Commit, SaysWhenFoldersCannotBeSynced) {
  RunFolder run;
  os::Calls table = os::system_calls();
  table.fsync = [](int fd) {
    struct stat found;
    fstat(fd, &found);
    if (!S_ISDIR(found.st_mode)) return fsync(fd);
    errno = EINVAL;
    return -1;
  };
  const os::ReplaceCalls replaced(table);
  EXPECT_THAT(run.commit(1, 1).writer, testing::HasSubstr("folders not synced"));
}

TEST(Commit, WorksAfterTheWorkingDirectoryChanged) {
  RunFolder run;
  const fs::path before = fs::current_path();
  fs::current_path(run.path().parent_path());
  const auto lock = lock_folder(run.path().filename());
  fs::current_path("/");
  Writer writer;
  for (int step = 1; step <= 3; ++step) {
    fakes::Shard shard = fakes::small_shard(1);
    commit_step(*lock, step, shard, "null", writer, {.overwrite = false, .keep = 1});
  }
  fs::current_path(before);
  EXPECT_THAT(run.names(), ElementsAre("step-3"));
}

TEST(Retention, KeepsTheNewest) {
  RunFolder run;
  for (int step = 1; step <= 5; ++step) {
    run.commit(step, 1, {.overwrite = false, .keep = 2});
  }
  EXPECT_THAT(run.names(), ElementsAre("step-4", "step-5"));
}

TEST(Retention, GoesByNumberAndNeverTakesWhatWasJustSaved) {
  RunFolder run;
  for (const int step : {20, 100, 9}) run.commit(step, 1);
  run.commit(3, 1, {.overwrite = false, .keep = 2});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{3, 9, 20, 100}));
  run.commit(12, 1, {.overwrite = false, .keep = 0});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{12, 20, 100})) << "the newest always stays";
}

// After a rollback to 3 the new branch is kept like any other, and the old one until it is passed.
TEST(Retention, NewStepsDoNotGoForTheSakeOfAnAbandonedFuture) {
  RunFolder run;
  for (const int step : {1, 2, 3, 40, 50}) run.commit(step, 1);
  for (const int step : {4, 5, 6}) run.commit(step, 2, {.overwrite = false, .keep = 2});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{5, 6, 40, 50}));
  run.commit(41, 2, {.overwrite = false, .keep = 2});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{40, 41, 50}));
  run.commit(60, 2, {.overwrite = false, .keep = 2});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{50, 60}));
}

TEST(Retention, LeavesDamagedStepsAndStrangersAlone) {
  RunFolder run;
  for (const int step : {1, 2, 3}) run.commit(step, 1);
  fs::remove(run / "step-1/checkpoint.json");
  fs::resize_file(run / "step-2" / kShardName, 10);
  fs::create_directory(run / "step-0");
  fs::create_directory(run / "best");
  fakes::write_text(run / "step-00", "a file of somebody's");
  run.commit(4, 1, {.overwrite = false, .keep = 1});
  EXPECT_THAT(run.names(), ElementsAre("best", "step-0", "step-00", "step-1", "step-2", "step-4"));
}

TEST(Retention, DamagedNewestDoesNotCountAsKept) {
  RunFolder run;
  for (const int step : {1, 2, 9}) run.commit(step, 1);
  fs::remove(run / "step-9/checkpoint.json");
  run.commit(3, 1, {.overwrite = false, .keep = 2});
  EXPECT_EQ(run.steps(), (std::vector<std::int64_t>{2, 3}));
}

TEST(Retention, FailureDoesNotFailTheSaveAndIsTriedAgain) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  run.commit(1, 1);
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EACCES, .call = "unlinkat"});
    run.commit(2, 2, {.overwrite = false, .keep = 1});
    EXPECT_TRUE(faults.was_reached());
  }
  EXPECT_EQ(run.steps(), std::vector<std::int64_t>{2});
  EXPECT_EQ(run.names().size(), 2u);
  run.commit(3, 3);
  EXPECT_THAT(run.names(), ElementsAre("step-2", "step-3"));
}

TEST(Retention, StepThatCannotBeRenamedIsToldAndDoesNotKeepTheOthers) {
  for (const int error : {EPERM, EXDEV, EBUSY}) {
    RunFolder run;
    run.commit(1, 1);
    static int refusal;
    refusal = error;
    os::Calls table = os::system_calls();
    table.renameat = [](int from_dir, const char* from, int to_dir, const char* to) {
      if (from != std::string("step-1")) return ::renameat(from_dir, from, to_dir, to);
      errno = refusal;
      return -1;
    };
    const os::ReplaceCalls replaced(table);
    Committed last;
    for (int step = 2; step <= 6; ++step) {
      last = run.commit(step, 1, {.overwrite = false, .keep = 2});
    }
    EXPECT_THAT(run.names(), ElementsAre("step-1", "step-5", "step-6"));
    EXPECT_THAT(last.unremoved, testing::HasSubstr("1 old folder could not be removed"));
    EXPECT_THAT(last.unremoved, testing::HasSubstr((run / "step-1").string()));
    EXPECT_THAT(last.unremoved, testing::HasSubstr(strerror(error)));
  }
}

TEST(Retention, TellsHowManyCouldNotBeRemoved) {
  RunFolder run;
  for (const int step : {1, 2, 3}) run.commit(step, 1);
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EACCES, .call = "unlinkat"});
    EXPECT_THAT(run.commit(4, 1, {.overwrite = false, .keep = 1}).unremoved,
                testing::HasSubstr("3 old folders could not be removed; the first: cannot remove"));
    // What is cleared before a commit is told as well.
    EXPECT_THAT(run.commit(5, 1).unremoved, testing::HasSubstr("3 old folders"));
  }
  EXPECT_EQ(run.commit(6, 1, {.overwrite = false, .keep = 1}).unremoved, "");
  EXPECT_THAT(run.names(), ElementsAre("step-6"));
}

class Leftovers : public testing::Test {
 protected:
  void copy(const std::string& from, const std::string& to) const {
    fs::copy(run_ / from, run_ / to, fs::copy_options::recursive);
  }

  RunFolder run_;
};

TEST_F(Leftovers, OfDeadWritersAreCleared) {
  run_.commit(1, 1);
  copy("step-1", "step-2.tmp-0123abcd");
  copy("step-1", "step-1.tmp-99999999");
  copy("step-1", "step-0.del-0123abcd");
  fs::create_directories(run_ / "step-3.tmp-00000000");
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), ElementsAre("step-1"));
  run_.expect_step(1, 1);
}

TEST_F(Leftovers, FilesOfOthersAreLeftAlone) {
  const std::vector<std::string> names = {
      ".hidden",         "best.tmp-0123abcd",   "events.out",          "step-01.tmp-0123abcd",
      "step-1.tmp-0123", "step-1.tmp-0123ABCD", "step-1.tmp-0123abcd", "step-1.tmp-0123abcde",
      "step-1.old",      "step-1.bak-0123abcd", "step-x.tmp-0123abcd", "tmp-0123abcd",
  };
  for (const std::string& name : names) fakes::write_text(run_ / name, name);
  fs::create_directories(run_ / "elsewhere/inside");
  fs::create_directory_symlink("elsewhere", run_ / "step-2.tmp-0123abcd");
  run_.commit(5, 1, {.overwrite = false, .keep = 1});
  for (const std::string& name : names) EXPECT_EQ(fakes::read_text(run_ / name), name);
  EXPECT_TRUE(fs::exists(run_ / "step-2.tmp-0123abcd/inside"));
}

TEST_F(Leftovers, OrphanOfAnOverwriteIsPutBack) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-1.old-0123abcd");
  EXPECT_THAT(run_.steps(), IsEmpty());
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), ElementsAre("step-1"));
  run_.expect_step(1, 1);
}

TEST_F(Leftovers, StepSetAsideGoesOnceItsSuccessorIsWhole) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-1.old-0123abcd");
  run_.commit(2, 2);
  copy("step-1", "step-1.tmp-00000000");
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-1.tmp-00000000", "step-2"));
  copy("step-1", "step-1.old-11111111");
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-2"));
}

TEST_F(Leftovers, StepSetAsideStaysWhileItsSuccessorIsDamaged) {
  run_.commit(1, 1);
  copy("step-1", "step-1.old-11111111");
  fs::remove(run_ / "step-1/checkpoint.json");
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-1.old-11111111"));
}

TEST_F(Leftovers, LinkToNowhereWithAStepsNameDoesNotStopSaving) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-1.old-0123abcd");
  fs::create_symlink("nowhere", run_ / "step-1");
  run_.commit(2, 2);
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-1.old-0123abcd", "step-2"));
}

TEST_F(Leftovers, TornOrphanIsNotPutBack) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-1.old-0123abcd");
  fs::remove(run_ / "step-1.old-0123abcd" / kShardName);
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), IsEmpty());
}

TEST_F(Leftovers, OrphanThatCannotBeReadIsNotRemoved) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-1.old-0123abcd");
  {
    // The first reads the lock file.
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 2, .error = EIO, .call = "pread"});
    expect_error(ErrorCode::io, "may be the only copy of step 1",
                 [&] { lock_folder(run_.path()); });
  }
  lock_folder(run_.path());
  run_.expect_step(1, 1);
}

TEST_F(Leftovers, OrphanOfAnotherStepIsNotPutBack) {
  run_.commit(1, 1);
  fs::rename(run_ / "step-1", run_ / "step-2.old-0123abcd");
  lock_folder(run_.path());
  EXPECT_THAT(run_.names(), IsEmpty());
}

TEST_F(Leftovers, NothingIsRemovedBeforeTheNamesAreOnDisk) {
  run_.commit(1, 1);
  copy("step-1", "step-2.tmp-0123abcd");
  const FaultyCalls faults({.mode = FaultMode::fail, .nth = 1, .error = EIO, .call = "fsync"});
  expect_error(ErrorCode::io, run_.path().string(), [&] { lock_folder(run_.path()); });
  EXPECT_TRUE(fs::exists(run_ / "step-2.tmp-0123abcd" / kShardName));
}

TEST_F(Leftovers, ThatCannotBeRemovedDoNotStopSaving) {
  run_.commit(1, 1);
  copy("step-1", "step-2.tmp-0123abcd");
  const auto lock = [&] {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EACCES, .call = "unlinkat"});
    return lock_folder(run_.path());
  }();
  EXPECT_TRUE(fs::exists(run_ / "step-2.tmp-0123abcd"));
  run_.commit(2, 2);
  EXPECT_THAT(run_.names(), ElementsAre("step-1", "step-2"));
}

}  // namespace
}  // namespace understudy::store
