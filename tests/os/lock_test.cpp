#include "os/lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"

namespace understudy::os {
namespace {

using fakes::in_child;

class LockTest : public testing::Test {
 protected:
  fakes::TemporaryFolder folder_;
  Directory directory_ = Directory::open(folder_.path());
};

TEST_F(LockTest, KeepsOthersAway) {
  LockFile mine(directory_, "lock");
  EXPECT_EQ(mine.lock(), std::nullopt);
  EXPECT_EQ(mine.lock(), std::nullopt) << "again does no harm";
  EXPECT_EQ(LockFile(directory_, "lock").lock(), 0) << "not even this process has it twice";
  EXPECT_EQ(in_child([&] { return LockFile(directory_, "lock").lock() == 0 ? 0 : 1; }), 0);
}

TEST_F(LockTest, StaysWhenAnotherDescriptorIsClosed) {
  LockFile mine(directory_, "lock");
  ASSERT_EQ(mine.lock(), std::nullopt);
  fakes::read_text(folder_ / "lock");
  EXPECT_EQ(in_child([&] { return LockFile(directory_, "lock").lock() == 0 ? 0 : 1; }), 0);
}

TEST_F(LockTest, EndsWithTheObject) {
  { ASSERT_EQ(LockFile(directory_, "lock").lock(), std::nullopt); }
  EXPECT_EQ(in_child([&] { return LockFile(directory_, "lock").lock().has_value() ? 1 : 0; }), 0);
}

TEST_F(LockTest, EndsWithTheProcessThoughForkedChildrenLiveOn) {
  int told[2], end[2];
  ASSERT_EQ(pipe(told), 0);
  ASSERT_EQ(pipe(end), 0);
  EXPECT_EQ(in_child([&] {
              LockFile mine(directory_, "lock");
              if (mine.lock()) return 1;
              if (fork() == 0) {  // a worker, which outlives the process that has the lock
                close(end[1]);
                char c;
                if (write(told[1], "x", 1) == 1) (void)!read(end[0], &c, 1);
                _exit(0);
              }
              char c;
              return read(told[0], &c, 1) == 1 ? 0 : 2;
            }),
            0);
  EXPECT_EQ(LockFile(directory_, "lock").lock(), std::nullopt);
  for (const int fd : {told[0], told[1], end[0], end[1]}) close(fd);
}

TEST_F(LockTest, ExcludesProcessesThatLockInTheOldWay) {
  int told[2];
  ASSERT_EQ(pipe(told), 0);
  const pid_t old = fork();
  if (old == 0) {
    const int fd = ::open((folder_ / "lock").c_str(), O_RDWR | O_CREAT, 0666);
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    if (fcntl(fd, F_SETLK, &lock) != 0 || write(told[1], "x", 1) != 1) _exit(1);
    pause();
  }
  char c;
  ASSERT_EQ(read(told[0], &c, 1), 1);
  EXPECT_EQ(LockFile(directory_, "lock").lock(), old);
  kill(old, SIGKILL);
  waitpid(old, nullptr, 0);
  close(told[0]);
  close(told[1]);
}

TEST_F(LockTest, SaysWhoWroteIntoIt) {
  LockFile mine(directory_, "lock");
  EXPECT_EQ(mine.text(), "");
  EXPECT_TRUE(mine.set_text("a longer text"));
  EXPECT_TRUE(mine.set_text("short"));
  EXPECT_EQ(LockFile(directory_, "lock").text(), "short");
  fakes::write_text(folder_ / "lock", std::string(1000, 'x'));
  EXPECT_EQ(mine.text().size(), 200u);
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .error = ENOSPC, .call = "pwrite"});
  EXPECT_FALSE(mine.set_text("no space for it"));
  EXPECT_EQ(mine.text(), "");
}

TEST_F(LockTest, RefusalByTheSystemIsNotBusy) {
  LockFile file(directory_, "lock");
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .error = ENOLCK, .call = "lock"});
  fakes::expect_error(ErrorCode::io, "cannot lock " + file.name(), [&] { file.lock(); });
}

TEST_F(LockTest, HolderThatComesAndGoesIsStillAnAnswer) {
  LockFile file(directory_, "lock");
  // Refused each time, and nobody there when asked.
  os::Calls table = system_calls();
  table.lock = [](int fd, int command, struct flock* lock) {
    if (command == F_OFD_GETLK) return system_calls().lock(fd, command, lock);
    errno = EAGAIN;
    return -1;
  };
  const ReplaceCalls replaced(table);
  EXPECT_EQ(file.lock(), 0);
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
  fakes::expect_error(ErrorCode::io, "/lock", [&] { LockFile(directory_, "lock"); });
}

}  // namespace
}  // namespace understudy::os
