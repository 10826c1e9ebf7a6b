#include "store/folder_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <optional>
#include <thread>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "os/calls.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::in_child;
using testing::ElementsAre;
using testing::HasSubstr;

/// What happens to a process that asks for the folder: "" or the message.
std::string ask(const RunFolder& run) {
  try {
    lock_folder(run.path());
    return "";
  } catch (const Error& error) {
    return std::string(to_string(error.code())) + ": " + error.what();
  }
}

/// The same, asked by a forked child.
bool is_busy_for_child(const RunFolder& run, pid_t holder) {
  return in_child([&] {
           const std::string answer = ask(run);
           return answer.starts_with("busy: " + run.path().string()) &&
                          answer.find("process " + std::to_string(holder) + " on ") !=
                              std::string::npos
                      ? 0
                      : (answer.empty() ? 1 : 2);
         }) == 0;
}

bool is_free_for_child(const RunFolder& run) {
  return in_child([&] { return ask(run).empty() ? 0 : 1; }) == 0;
}

/// A process that holds the folder until the destructor.
class Holder {
 public:
  explicit Holder(const RunFolder& run) {
    int told[2];
    if (pipe(told) != 0) throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      const auto lock = lock_folder(run.path());
      if (write(told[1], "x", 1) != 1) _exit(1);
      pause();
      _exit(0);
    }
    char c;
    if (read(told[0], &c, 1) != 1) throw std::runtime_error("the holder died");
    close(told[0]);
    close(told[1]);
  }
  ~Holder() { end(); }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

TEST(FolderLock, SecondProcessIsToldWhoHasIt) {
  RunFolder run;
  Holder holder(run);
  EXPECT_THAT(ask(run), HasSubstr("busy: " + run.path().string() + " is being written by process " +
                                  std::to_string(holder.pid())));
  expect_error(ErrorCode::busy, "process", [&] { run.commit(1, 1); });
  EXPECT_TRUE(run.steps().empty());
  holder.end();  // killed, so it could tidy nothing
  run.commit(1, 1);
  run.expect_step(1, 1);
}

TEST(FolderLock, HoldersOfOneProcessShareIt) {
  RunFolder run;
  auto one = lock_folder(run.path());
  auto two = lock_folder(run.path() / ".");  // the same folder, whatever its name
  one.reset();
  EXPECT_TRUE(is_busy_for_child(run, getpid())) << "the first holder's end is not the last's";
  two.reset();
  EXPECT_TRUE(is_free_for_child(run));
  EXPECT_EQ(ask(run), "");
}

TEST(FolderLock, HoldersCommitOneAtATime) {
  RunFolder run;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        run.commit(t * 5 + i, 1, {.overwrite = false, .keep = 3});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto steps = run.steps();
  EXPECT_GE(steps.size(), 3u);
  EXPECT_EQ(steps.back(), 19);
  for (const std::int64_t step : steps) run.expect_step(step, 1);
  EXPECT_EQ(run.names().size(), steps.size());
}

TEST(FolderLock, ComingAndGoingHoldersNeverLoseIt) {
  RunFolder run;
  const auto kept = lock_folder(run.path());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) lock_folder(run.path());
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(is_busy_for_child(run, getpid()));
}

TEST(FolderLock, ForkedChildHasAnInertOne) {
  RunFolder run;
  auto lock = lock_folder(run.path());
  const pid_t me = getpid();
  EXPECT_EQ(in_child([&] {
              Writer writer({.threads = 1});
              fakes::Shard shard = fakes::small_shard(1);
              try {
                commit_step(*lock, 1, shard, "null", writer, {});
                return 1;
              } catch (const Error& error) {
                if (error.code() != ErrorCode::closed) return 2;
              }
              if (ask(run).find("process " + std::to_string(me)) == std::string::npos) return 3;
              lock.reset();  // must not end the parent's
              return 0;
            }),
            0);
  EXPECT_TRUE(is_busy_for_child(run, me));
  run.commit(1, 1);
  run.expect_step(1, 1);
}

TEST(FolderLock, ChildThatTookOverKeepsItWhenTheParentsObjectGoes) {
  RunFolder run;
  int parent_is_gone[2];
  ASSERT_EQ(pipe(parent_is_gone), 0);
  // A parent that dies holding the lock, and its forked child that lives on.
  EXPECT_EQ(in_child([&] {
              auto lock = lock_folder(run.path());
              if (fork() != 0) _exit(0);
              while (getppid() == 1 ? false : !ask(run).empty()) usleep(1000);
              const auto mine = lock_folder(run.path());
              lock.reset();
              const bool is_kept = is_busy_for_child(run, getpid());
              _exit(write(parent_is_gone[1], is_kept ? "y" : "n", 1) == 1 ? 0 : 1);
              return 0;
            }),
            0);
  char answer = 0;
  ASSERT_EQ(read(parent_is_gone[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  close(parent_is_gone[0]);
  close(parent_is_gone[1]);
}

TEST(FolderLock, StaysWhenThisProcessCopiesTheFolder) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  fakes::read_text(run / ".understudy.lock");  // opened and closed
  EXPECT_TRUE(is_busy_for_child(run, getpid()));
}

TEST(FolderLock, SaveThatLosesItIsAnErrorAndNeverAcknowledged) {
  // The lock file goes, and another process clears the folder and may save. However that one
  // leaves, and whenever the other's clearing comes: the save has not happened.
  for (const bool is_still_there : {true, false}) {
    RunFolder run;
    run.commit(1, 1);
    std::optional<Holder> other;
    expect_error(ErrorCode::busy, "lost its lock during a save", [&] {
      run.commit_during(7, 1, {}, [&] {
        fs::remove(run / ".understudy.lock");
        other.emplace(run);
        if (!is_still_there) other.reset();
      });
    });
    EXPECT_THAT(run.steps(), ElementsAre(1));
    other.reset();
    run.commit(8, 8);
    EXPECT_THAT(run.names(), ElementsAre("step-1", "step-8"));
  }
}

TEST(FolderLock, IsLookedAtAgainAfterTheRename) {
  RunFolder run;
  static fs::path lock_file, step;
  lock_file = run / ".understudy.lock";
  step = run / "step-7";
  os::Calls table = os::system_calls();
  table.fsync = [](int fd) {
    if (fs::exists(step)) fs::remove(lock_file);
    return ::fsync(fd);
  };
  {
    const os::ReplaceCalls replaced(table);
    expect_error(ErrorCode::busy, "its file was removed or replaced", [&] { run.commit(7, 1); });
  }
  EXPECT_THAT(run.steps(), testing::IsEmpty());
  run.commit(7, 2);
  run.expect_step(7, 2);
  EXPECT_THAT(run.names(), ElementsAre("step-7"));
}

TEST(FolderLock, SaysWhoHadItMeanwhile) {
  // A server that forgets a lock: the file is the same, and the lock is free again.
  RunFolder run;
  expect_error(ErrorCode::busy, "another process had it meanwhile", [&] {
    run.commit_during(
        7, 1, {}, [&] { fakes::write_text(run / ".understudy.lock", "process 1 on elsewhere\n"); });
  });
  run.commit(7, 2);
  run.expect_step(7, 2);
}

TEST(FolderLock, StepThatIsTidiedAwayMeanwhileIsAnError) {
  RunFolder run;
  static fs::path run_path;
  run_path = run.path();
  os::Calls table = os::system_calls();
  // At the last sync before the rename, the folder's own, the shard goes.
  table.renameat2 = [](int, const char*, int, const char*, unsigned) -> int {
    ADD_FAILURE() << "renamed";
    return -1;
  };
  table.fsync = [](int fd) {
    for (const auto& entry : fs::recursive_directory_iterator(run_path)) {
      if (entry.path().filename() == "checkpoint.json") {
        fs::remove(entry.path().parent_path() / kShardName);
        break;
      }
    }
    return ::fsync(fd);
  };
  {
    const os::ReplaceCalls replaced(table);
    expect_error(ErrorCode::io, "was removed while the step was being saved",
                 [&] { run.commit(7, 1); });
  }
  EXPECT_THAT(run.names(), testing::IsEmpty());
}

TEST(FolderLock, FolderUnderAnotherDeviceNumberIsBusyInTheSameProcess) {
  // As two mounts of one network folder: the registry cannot know that it is the same.
  RunFolder run;
  const auto lock = lock_folder(run.path());
  os::Calls table = os::system_calls();
  table.fstat = [](int fd, struct stat* out) {
    const int result = ::fstat(fd, out);
    ++out->st_dev;
    return result;
  };
  table.fstatat = [](int dir, const char* path, struct stat* out, int flags) {
    const int result = ::fstatat(dir, path, out, flags);
    ++out->st_dev;
    return result;
  };
  const os::ReplaceCalls replaced(table);
  EXPECT_THAT(ask(run), HasSubstr("by process " + std::to_string(getpid())));
}

TEST(FolderLock, NamesTheRanksOfAProgramOfSeveral) {
  RunFolder run;
  setenv("RANK", "1", 1);
  setenv("WORLD_SIZE", "8", 1);
  const auto lock = lock_folder(run.path());
  setenv("RANK", "0", 1);
  EXPECT_EQ(in_child([&] {
              const std::string answer = ask(run);
              return answer.find(", rank 1 of 8; one process") != std::string::npos &&
                             answer.find("and this is rank 0 of 8: have one rank save") !=
                                 std::string::npos
                         ? 0
                         : 1;
            }),
            0);
  unsetenv("RANK");
  unsetenv("WORLD_SIZE");
}

TEST(FolderLock, WhatOthersWroteIntoTheFileIsNotRepeated) {
  RunFolder run;
  const Holder holder(run);
  for (const char* text : {"process \x1b[31m\n", "me\n", "process 12", ""}) {
    fakes::write_text(run / ".understudy.lock", text);
    EXPECT_THAT(ask(run), HasSubstr("is being written by another process; one process"));
  }
}

TEST(FolderLock, LockFileThatWasRemovedIsMadeAgain) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  fs::remove(run / ".understudy.lock");
  lock->begin_commit();
  EXPECT_TRUE(is_busy_for_child(run, getpid()));
}

TEST(FolderLock, LeavesNoDescriptors) {
  RunFolder run;
  const auto count = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  run.commit(1, 1);
  const auto before = count();
  for (int step = 2; step < 10; ++step) run.commit(step, 1, {.overwrite = false, .keep = 2});
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace understudy::store
