#include "os/lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"

namespace understudy::os {
namespace {

/// Runs `body` in a forked child and returns what it returns (0 to 125).
template <class Body>
int in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    int result = 126;
    try {
      result = body();
    } catch (...) {
    }
    _exit(result);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class LockTest : public testing::Test {
 protected:
  fakes::TemporaryFolder folder_;
  Directory directory_ = Directory::open(folder_.path());
};

TEST_F(LockTest, BelongsToTheProcessAndNamesIt) {
  const File file = open_lock_file(directory_, "lock");
  EXPECT_EQ(lock_for_process(file), std::nullopt);
  EXPECT_EQ(lock_for_process(file), std::nullopt) << "again does no harm";
  const pid_t me = getpid();
  EXPECT_EQ(in_child([&] { return lock_for_process(file) == me ? 0 : 1; }), 0)
      << "a forked child does not have it, by the same descriptor";
  EXPECT_EQ(
      in_child([&] { return lock_for_process(open_lock_file(directory_, "lock")) == me ? 0 : 1; }),
      0);
}

TEST_F(LockTest, EndsWithTheFile) {
  { const File file = open_lock_file(directory_, "lock"); }
  EXPECT_EQ(in_child([&] {
              return lock_for_process(open_lock_file(directory_, "lock")).has_value() ? 1 : 0;
            }),
            0);
}

TEST_F(LockTest, RefusalByTheSystemIsNotBusy) {
  const File file = open_lock_file(directory_, "lock");
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .error = ENOLCK, .call = "lock"});
  fakes::expect_error(ErrorCode::io, "cannot lock " + file.name(), [&] { lock_for_process(file); });
}

TEST_F(LockTest, HolderThatComesAndGoesIsStillAnAnswer) {
  const File file = open_lock_file(directory_, "lock");
  // Refused each time, and nobody there when asked.
  os::Calls table = system_calls();
  table.lock = [](int fd, int command, struct flock* lock) {
    if (command == F_GETLK) return system_calls().lock(fd, command, lock);
    errno = EAGAIN;
    return -1;
  };
  const ReplaceCalls replaced(table);
  EXPECT_EQ(lock_for_process(file), 0);
}

TEST_F(LockTest, OpenFilesExcludeEachOtherInOneProcess) {
  directory_.create("a");
  const File one = directory_.open_file("a");
  const File two = directory_.open_file("a");
  EXPECT_EQ(lock_open_file(one), FileLock::taken);
  EXPECT_EQ(lock_open_file(one), FileLock::taken);
  EXPECT_EQ(lock_open_file(two), FileLock::held);
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .error = ENOLCK, .call = "flock"});
  EXPECT_EQ(lock_open_file(two), FileLock::unsupported);
}

TEST_F(LockTest, LockFileIsNoLink) {
  fakes::write_text(folder_ / "elsewhere", "");
  std::filesystem::create_symlink("elsewhere", folder_ / "lock");
  fakes::expect_error(ErrorCode::io, "/lock", [&] { open_lock_file(directory_, "lock"); });
}

}  // namespace
}  // namespace understudy::os
