// Where the folder of a run is: fixed when the checkpointer is made.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "os/calls.h"
#include "understudy/inspect.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::training_state;

class RunFolderTest : public ::testing::Test {
 protected:
  ~RunFolderTest() override { fs::current_path(before_); }

  const fs::path before_ = fs::current_path();
  const fakes::TemporaryFolder folder_;
};

TEST_F(RunFolderTest, StaysWhenTheWorkingDirectoryChanges) {
  fs::create_directories(folder_ / "other/runs/a");
  fs::current_path(folder_.path());
  Checkpointer ckpt({.directory = "runs/a/"});
  ckpt.save(1, training_state(1)).wait();
  fs::current_path(folder_ / "other");
  EXPECT_EQ(ckpt.directory(), folder_ / "runs/a");
  EXPECT_EQ(ckpt.steps(), std::vector<std::int64_t>{1});
  EXPECT_EQ(ckpt.save(2, training_state(2)).wait(), folder_ / "runs/a/step-2");
  expect_error(ErrorCode::invalid, "step 1", [&] { ckpt.save(1, training_state(1)); });
  Value state = training_state(0);
  EXPECT_EQ(ckpt.resume(state), 2);
  EXPECT_EQ(ckpt.restore().step, 2);
  EXPECT_TRUE(fs::is_empty(folder_ / "other/runs/a"));
}

TEST_F(RunFolderTest, WorkingDirectoryThatIsGoneIsSaid) {
  fs::create_directory(folder_ / "gone");
  fs::current_path(folder_ / "gone");
  fs::remove(folder_ / "gone");
  expect_error(ErrorCode::not_found, "working directory", [] { Checkpointer({.directory = "a"}); });
}

TEST_F(RunFolderTest, MovedOrReplacedIsAnErrorOfEveryCall) {
  const auto run = folder_ / "run";
  for (const bool is_replaced : {false, true}) {
    Checkpointer ckpt({.directory = run});
    ckpt.save(1, training_state(1), {.overwrite = true}).wait();
    fs::rename(run, folder_ / "away");
    if (is_replaced) fs::create_directory(run);
    const auto expect_moved = [](auto call) {
      expect_error(ErrorCode::io, "renamed, removed or replaced", call);
    };
    expect_moved([&] { ckpt.save(2, training_state(2)); });
    expect_moved([&] { ckpt.steps(); });
    expect_moved([&] { ckpt.latest(); });
    expect_moved([&] { ckpt.restore(); });
    Value state = training_state(0);
    expect_moved([&] { ckpt.resume(state); });
    EXPECT_FALSE(fs::exists(folder_ / "away/step-2"));
    // Back in its place it goes on.
    fs::remove(run);
    fs::rename(folder_ / "away", run);
    ckpt.save(2, training_state(2), {.overwrite = true}).wait();
    EXPECT_EQ(ckpt.latest(), 2);
    ckpt.close();
    fs::remove_all(run / "step-2");
  }
}

TEST_F(RunFolderTest, MovedWhileASaveIsWrittenFailsItsTicket) {
  const auto run = folder_ / "run";
  Checkpointer ckpt({.directory = run});
  ckpt.save(1, training_state(1)).wait();
  static fs::path from, to;
  from = run;
  to = folder_ / "away";
  os::Calls table = os::system_calls();
  table.renameat = [](int from_dir, const char* a, int to_dir, const char* b) {
    if (fs::exists(from)) fs::rename(from, to);
    return ::renameat(from_dir, a, to_dir, b);
  };
  table.renameat2 = [](int from_dir, const char* a, int to_dir, const char* b, unsigned flags) {
    if (fs::exists(from)) fs::rename(from, to);
    return ::renameat2(from_dir, a, to_dir, b, flags);
  };
  const os::ReplaceCalls replaced(table);
  auto ticket = ckpt.save(2, training_state(2));
  expect_error(ErrorCode::io, "renamed, removed or replaced", [&] { ticket.wait(); });
  ckpt.close();
}

TEST_F(RunFolderTest, PathAtTheLimitSavesAndRestoresAndBeyondItIsAnError) {
  // Made part by part, as no call takes it whole.
  std::string path = folder_.path().string();
  while (path.size() + 201 < 4095) path += "/" + std::string(200, 'd');
  path += "/" + std::string(4095 - path.size() - 1, 'e');
  ASSERT_EQ(path.size(), 4095u);
  fs::create_directories(fs::path(path).parent_path());
  Checkpointer ckpt({.directory = path});
  ckpt.save(1, training_state(1)).wait();
  EXPECT_EQ(ckpt.latest(), 1);
  EXPECT_EQ(fakes::fingerprint(ckpt.restore().state), fakes::fingerprint(training_state(1)));
  Value state = training_state(0);
  EXPECT_EQ(ckpt.resume(state), 1);
  EXPECT_TRUE(verify(path).is_whole());
  EXPECT_EQ(list_steps(path).size(), 1u);
  ckpt.close();
  expect_error(ErrorCode::io, "File name too long",
               [&] { Checkpointer({.directory = path + "f"}); });
  expect_error(ErrorCode::io, "File name too long", [&] { load_file(path + "f"); });
  expect_error(ErrorCode::io, "File name too long",
               [&] { save_file(training_state(1), path + "f"); });
}

TEST_F(RunFolderTest, WhatIsNoPathMakesNothing) {
  fs::current_path(folder_.path());
  for (const std::string path : {"s3://bucket/a", "s3:/bucket/a", "gs://b", "file:///tmp/a"}) {
    const auto expect_url = [&](auto call) { expect_error(ErrorCode::invalid, "is a URL", call); };
    expect_url([&] { Checkpointer({.directory = path}); });
    expect_url([&] { save_file(training_state(1), path); });
    expect_url([&] { load_file(path); });
    expect_url([&] { verify(path); });
    expect_url([&] { list_steps(path); });
    expect_url([&] { export_state(path, "out"); });
    expect_url([&] { doctor(path); });
  }
  save_file(training_state(1), "f");
  expect_error(ErrorCode::invalid, "is a URL", [&] { export_state("f", "s3://bucket/out"); });
  fs::remove("f");
  for (const std::string path : {"~", "~/runs"}) {
    expect_error(ErrorCode::invalid, "expand it", [&] { Checkpointer({.directory = path}); });
    expect_error(ErrorCode::invalid, "expand it", [&] { save_file(training_state(1), path); });
  }
  expect_error(ErrorCode::invalid, "NUL",
               [&] { Checkpointer({.directory = std::string("a\0b", 3)}); });
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  Checkpointer({.directory = "./s3:/a"});
  Checkpointer({.directory = "./~"});
  Checkpointer({.directory = "a:b"});
}

TEST_F(RunFolderTest, AStepItselfIsNoRun) {
  Checkpointer({.directory = folder_ / "run"}).save(1, training_state(1)).wait();
  expect_error(ErrorCode::invalid, "give the folder " + (folder_ / "run").string(),
               [&] { Checkpointer({.directory = folder_ / "run/step-1"}); });
}

TEST_F(RunFolderTest, OthersCheckpointsAreNamed) {
  Checkpointer ckpt({.directory = folder_ / "run"});
  EXPECT_EQ(ckpt.foreign_checkpoint(), "");
  fakes::write_text(folder_ / "run/last.ckpt", "");
  EXPECT_EQ(ckpt.foreign_checkpoint(), "a checkpoint of Lightning (last.ckpt)");
  Value state = training_state(0);
  EXPECT_EQ(ckpt.resume(state), std::nullopt);
  expect_error(ErrorCode::not_found, "last.ckpt", [&] { ckpt.restore(); });
  expect_error(ErrorCode::not_found, "last.ckpt", [&] { verify(folder_ / "run"); });
}

TEST_F(RunFolderTest, WhatCannotBeAFolderIsAnError) {
  fakes::write_text(folder_ / "file", "");
  fs::create_directory_symlink("ring", folder_ / "ring");
  for (const std::string name : {"file", "file/a", "ring", "ring/a"}) {
    expect_error(ErrorCode::io, name, [&] { Checkpointer({.directory = folder_ / name}); });
  }
  expect_error(ErrorCode::invalid, "directory", [] { Checkpointer({.directory = ""}); });
}

}  // namespace
}  // namespace understudy
