#include "store/folder_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <thread>

#include "fakes/child.h"
#include "fakes/expect_error.h"
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
                          answer.find("process " + std::to_string(holder) + ";") !=
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

TEST(FolderLock, IsTakenAgainWhenACopyOfTheFolderDroppedIt) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  // Any reader of the lock file in this process ends the lock when it closes it.
  fakes::read_text(run / ".understudy.lock");
  ASSERT_TRUE(is_free_for_child(run));
  lock->begin_commit();
  EXPECT_TRUE(is_busy_for_child(run, getpid()));
}

TEST(FolderLock, CommitIsRefusedWhenItWasLostToAnother) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  fakes::read_text(run / ".understudy.lock");
  const Holder holder(run);
  expect_error(ErrorCode::busy, "process " + std::to_string(holder.pid()),
               [&] { lock->begin_commit(); });
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
