#include "os/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"
#include "os/calls.h"

namespace understudy::os {
namespace {

using fakes::expect_error;
using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

class FileTest : public testing::Test {
 protected:
  File create(const std::string& name) const { return std::move(*directory_.create(name)); }

  fakes::TemporaryFolder folder_;
  Directory directory_ = Directory::open(folder_.path());
};

TEST_F(FileTest, ReadsWhatWasWritten) {
  const File file = create("a");
  file.write_at(3, bytes_of("hello"));
  EXPECT_EQ(file.size(), 8u);
  std::string out(5, ' ');
  file.read_at(3, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "hello");
  EXPECT_EQ(file.name(), (folder_ / "a").string());
}

TEST_F(FileTest, EndBeforeTheWantedBytesIsCorrupt) {
  fakes::write_text(folder_ / "a", "12345");
  const File file = File::open(folder_ / "a");
  std::vector<std::byte> out(4);
  expect_error(ErrorCode::corrupt, "ends at byte 5; bytes 2 to 6 were wanted",
               [&] { file.read_at(2, out); });
}

TEST_F(FileTest, MissingFileIsNotFound) {
  expect_error(ErrorCode::not_found, (folder_ / "no").string(),
               [&] { File::open(folder_ / "no"); });
  expect_error(ErrorCode::not_found, "no/x", [&] { Directory::open(folder_ / "no/x"); });
  expect_error(ErrorCode::not_found, "/no", [&] { directory_.open_file("no"); });
}

TEST_F(FileTest, PipesAndFoldersAreNotFiles) {
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  // Without a writer a plain open would wait here for ever.
  expect_error(ErrorCode::invalid, "pipe is not a plain file",
               [&] { File::open(folder_ / "pipe"); });
  expect_error(ErrorCode::invalid, "pipe is not a plain file",
               [&] { directory_.open_file("pipe"); });
  expect_error(ErrorCode::invalid, "is not a plain file", [&] { File::open(folder_.path()); });
}

TEST_F(FileTest, SignalsAndShortCountsAreHandledInside) {
  const std::string text(10'000, 'x');
  for (const FaultMode mode : {FaultMode::fail, FaultMode::short_count}) {
    for (const char* call : {"pwrite", "pread"}) {
      const std::string name = std::string(call) + std::to_string(static_cast<int>(mode));
      const FaultyCalls faults({.mode = mode, .nth = 1, .error = EINTR, .call = call});
      const File file = create(name);
      file.write_at(0, bytes_of(text));
      std::string out(text.size(), ' ');
      file.read_at(0, std::as_writable_bytes(std::span(out)));
      EXPECT_EQ(out, text);
      EXPECT_TRUE(faults.was_reached());
      EXPECT_EQ(faults.count(), 2) << call;
    }
  }
}

TEST_F(FileTest, EverySignalIsHandled) {
  for (const char* call : {"open", "openat", "fstat", "fsync", "fallocate", "ftruncate", "fchmod",
                           "fstatat", "mkdirat", "renameat", "renameat2", "unlinkat"}) {
    SCOPED_TRACE(call);
    const std::string name = call;
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 1, .error = EINTR, .call = call});
    const Directory directory = Directory::open(folder_.path());
    const Directory inner = directory.make_directory(name);
    const File file = std::move(*inner.create("a"));
    EXPECT_EQ(file.size(), 0u);
    EXPECT_TRUE(file.reserve(10));
    file.resize(20);
    file.set_mode(0600);
    file.sync();
    inner.rename("a", "b");
    EXPECT_TRUE(inner.exists("b"));
    inner.create("c");
    EXPECT_TRUE(inner.exchange("b", "c"));
    inner.remove_file("b");
    directory.sync();
    directory.remove_tree(name);
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST_F(FileTest, NotNowIsAskedAgainButNotForEver) {
  fakes::write_text(folder_ / "a", "12345");
  const File file = File::open(folder_ / "a");
  std::vector<std::byte> out(4);
  {
    const FaultyCalls faults({FaultMode::fail, 1, EAGAIN, "pread"});
    file.read_at(0, out);
    EXPECT_TRUE(faults.was_reached());
  }
  const FaultyCalls faults({FaultMode::fail, 0, EAGAIN, "pread"});
  expect_error(ErrorCode::io, "read bytes 1 to 5 of " + (folder_ / "a").string(),
               [&] { file.read_at(1, out); });
  EXPECT_GT(faults.count(), 1);
}

TEST_F(FileTest, ReopenedIsTheSameFileWhateverHasItsName) {
  fakes::write_text(folder_ / "a", "old");
  const File file = File::open(folder_ / "a");
  fakes::write_text(folder_ / "b", "new");
  directory_.rename("b", "a");
  const auto again = file.reopen();
  if (!again) GTEST_SKIP() << "no /proc";
  EXPECT_NE(again->fd(), file.fd());
  EXPECT_EQ(again->name(), file.name());
  std::string out(3, ' ');
  again->read_at(0, std::as_writable_bytes(std::span(out)));
  EXPECT_EQ(out, "old");
  const FaultyCalls faults({FaultMode::fail, 1, EMFILE, "open"});
  EXPECT_FALSE(file.reopen());
}

TEST_F(FileTest, KnowsWhatThePageCacheHolds) {
  const File file = create("a");
  file.write_at(0, bytes_of(std::string(100000, 'x')));
  const std::vector<std::uint64_t> ends{0, 99999};
  EXPECT_TRUE(file.is_cached(ends));
  file.sync();
  posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED);
  if (file.is_cached(ends)) GTEST_SKIP() << "the page cache keeps this file";
  std::string out(1, ' ');
  file.read_at(0, std::as_writable_bytes(std::span(out)));
  EXPECT_TRUE(file.is_cached(std::span(ends).first(1)));
  const FaultyCalls faults({FaultMode::fail, 1, ENOMEM, "mmap"});
  EXPECT_FALSE(file.is_cached(ends));
  EXPECT_TRUE(faults.was_reached());
}

TEST_F(FileTest, WriteThatTakesNothingIsAnErrorAndNoLoop) {
  const File file = create("a");
  const FaultyCalls faults({.mode = FaultMode::zero_count, .call = "pwrite"});
  expect_error(ErrorCode::io, (folder_ / "a").string() + ": the system took 0 of 5 bytes",
               [&] { file.write_at(0, bytes_of("hello")); });
  EXPECT_EQ(faults.count(), 1);
}

TEST_F(FileTest, ErrnoBecomesACode) {
  const std::vector<std::pair<int, ErrorCode>> expected = {
      {ENOSPC, ErrorCode::no_space},  {EDQUOT, ErrorCode::no_space}, {EFBIG, ErrorCode::no_space},
      {ENOENT, ErrorCode::not_found}, {EIO, ErrorCode::io},          {EACCES, ErrorCode::io},
      {EAGAIN, ErrorCode::io},
  };
  const File file = create("a");
  for (const auto& [error, code] : expected) {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = error, .call = "pwrite"});
    const std::string message = expect_error(code, "cannot write " + (folder_ / "a").string(),
                                             [&] { file.write_at(0, bytes_of("hello")); });
    EXPECT_NE(message.find(strerror(error)), std::string::npos) << message;
    EXPECT_EQ(faults.count(), error == EAGAIN ? 8 : 1);  // what must wait is asked again
  }
}

TEST_F(FileTest, FailedWriteBackIsToldWhereItIsWaitedFor) {
  const File file = create("a");
  file.write_at(0, bytes_of("hello"));
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EIO, .call = "sync_file_range"});
    file.begin_write_back(0, 5);  // only asks
    expect_error(ErrorCode::io, "cannot write back " + (folder_ / "a").string(),
                 [&] { file.finish_write_back(0, 5); });
    EXPECT_EQ(faults.count(), 2);
  }
  const FaultyCalls faults({.mode = FaultMode::fail, .error = ENOSYS, .call = "sync_file_range"});
  file.finish_write_back(0, 5);  // fsync will do
  EXPECT_TRUE(faults.was_reached());
}

TEST_F(FileTest, FailedSyncIsNotTriedAgain) {
  const File file = create("a");
  for (const int error : {EIO, ENOSPC}) {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = error, .call = "fsync"});
    EXPECT_THROW(file.sync(), Error);
    EXPECT_EQ(faults.count(), 1);
    EXPECT_THROW(directory_.sync(), Error);
    EXPECT_EQ(faults.count(), 2);
  }
}

TEST_F(FileTest, ReserveTakesSpaceOrSaysThatItCannot) {
  const File file = create("a");
  EXPECT_TRUE(file.reserve(0));
  EXPECT_TRUE(file.reserve(100'000));
  EXPECT_EQ(file.size(), 100'000u);
  struct stat found;
  ASSERT_EQ(fstat(file.fd(), &found), 0);
  EXPECT_GE(found.st_blocks * 512, 100'000);
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EOPNOTSUPP, .call = "fallocate"});
    EXPECT_FALSE(file.reserve(1));
  }
  const FaultyCalls faults({.mode = FaultMode::fail, .error = ENOSPC, .call = "fallocate"});
  expect_error(ErrorCode::no_space, "reserve 7 bytes", [&] { file.reserve(7); });
}

TEST_F(FileTest, CloseReportsOnceAndDestructorNever) {
  File file = create("a");
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EIO, .call = "close"});
  EXPECT_THROW(file.close(), Error);
  EXPECT_FALSE(file.is_open());
  file.close();
  { const File other = create("b"); }
  EXPECT_EQ(faults.count(), 2);
}

TEST_F(FileTest, DescriptorsAreNotInheritedByOtherPrograms) {
  const File file = create("a");
  EXPECT_TRUE(fcntl(file.fd(), F_GETFD) & FD_CLOEXEC);
  EXPECT_TRUE(fcntl(directory_.fd(), F_GETFD) & FD_CLOEXEC);
  EXPECT_TRUE(fcntl(File::open(folder_ / "a").fd(), F_GETFD) & FD_CLOEXEC);
}

TEST_F(FileTest, NewFilesFollowTheMask) {
  const mode_t before = umask(027);
  create("a");
  directory_.make_directory("d");
  umask(before);
  EXPECT_EQ(directory_.find("a")->mode, 0640u);
  EXPECT_EQ(directory_.find("d")->mode, 0750u);
}

struct alignas(4096) Pages {
  std::array<std::byte, 3 * 4096> bytes;
};

TEST_F(FileTest, DirectWritesGoOnAtAUnitAfterAShortCount) {
  auto file = directory_.create("a", /*direct=*/true);
  if (!file) GTEST_SKIP() << "no direct I/O in " << folder_.path();
  const auto pages = std::make_unique<Pages>();
  for (std::size_t i = 0; i < pages->bytes.size(); ++i) {
    pages->bytes[i] = static_cast<std::byte>(i * 7 + i / 4096);
  }
  // Half of three pages is no multiple of one; half of one is less than one.
  const FaultyCalls faults({.mode = FaultMode::short_count, .nth = 1, .call = "pwrite"});
  file->write_at(0, pages->bytes);
  EXPECT_TRUE(faults.was_reached());
  const std::string written = fakes::read_text(folder_ / "a");
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(written)), pages->bytes));
}

TEST_F(FileTest, DirectWriteThatNeverPassesAUnitIsAnError) {
  auto file = directory_.create("a", /*direct=*/true);
  if (!file) GTEST_SKIP() << "no direct I/O in " << folder_.path();
  const auto page = std::make_unique<Pages>();
  const FaultyCalls faults({.mode = FaultMode::short_count, .call = "pwrite"});
  expect_error(ErrorCode::io, "the system took 2048 of 4096 bytes",
               [&] { file->write_at(0, std::span(page->bytes).first(4096)); });
}

TEST_F(FileTest, RefusedDirectIoLeavesNoFile) {
  {
    // The first write refuses.
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EINVAL, .call = "pwrite"});
    EXPECT_FALSE(directory_.create("a", true).has_value());
  }
  EXPECT_FALSE(directory_.exists("a"));
  {
    // The kernel makes the file and then refuses to open it.
    const FaultyCalls faults(
        {.mode = FaultMode::fail_after_doing, .nth = 1, .error = EINVAL, .call = "openat"});
    EXPECT_FALSE(directory_.create("a", true).has_value());
  }
  EXPECT_FALSE(directory_.exists("a"));
}

TEST_F(FileTest, CreateDoesNotTakeAnExistingFile) {
  fakes::write_text(folder_ / "a", "mine");
  expect_error(ErrorCode::io, "cannot create", [&] { directory_.create("a"); });
  expect_error(ErrorCode::io, "cannot create", [&] { directory_.create("a", true); });
  EXPECT_EQ(fakes::read_text(folder_ / "a"), "mine");
}

}  // namespace
}  // namespace understudy::os
