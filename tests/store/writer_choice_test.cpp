// Which writer is taken, and what is said of the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/verify.h"
#include "store/writer.h"

namespace understudy::store {
namespace {

using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;
using fakes::pattern;
using fakes::Shard;
using testing::HasSubstr;

constexpr std::size_t kBlock = format::kBlockNbytes;

/// The first write that goes to a new file proves direct I/O; refuse it.
const Fault kNoDirect{.mode = FaultMode::fail, .nth = 1, .error = EINVAL, .call = "pwrite"};

class WriterChoices : public testing::Test {
 protected:
  std::string written_by(const Fault& fault, WriterChoice choice = WriterChoice::automatic) {
    Shard shard({{"w", pattern(3 * kBlock + 5, 1)}});
    Writer writer({.choice = choice});
    const std::string name = std::to_string(number_++);
    std::string found;
    {
      const FaultyCalls faults(fault);
      found = writer.write(directory_, name, shard).writer;
      EXPECT_TRUE(fault.mode == FaultMode::none || faults.was_reached());
    }
    EXPECT_TRUE(verify_file(folder_ / name).damage.empty());
    return found;
  }

  void expect_refused(const Fault& fault, WriterChoice choice, const std::string& text) {
    Shard shard = fakes::small_shard(1);
    Writer writer({.choice = choice});
    const FaultyCalls faults(fault);
    fakes::expect_error(ErrorCode::unsupported, text,
                        [&] { writer.write(directory_, "refused", shard); });
    EXPECT_TRUE(faults.was_reached());
    EXPECT_FALSE(directory_.exists("refused"));
  }

  fakes::TemporaryFolder folder_;
  os::Directory directory_ = os::Directory::open(folder_.path());
  int number_ = 0;
};

TEST_F(WriterChoices, RefusedRingFallsToThreadsWithItsReason) {
  for (const int error : {ENOSYS, EPERM, ENOMEM}) {
    EXPECT_EQ(written_by({.mode = FaultMode::fail, .error = error, .call = "uring_open"}),
              std::string("threads; io_uring: cannot set up a ring: ") + strerror(error));
  }
}

TEST_F(WriterChoices, RefusedDirectIoFallsToThePageCacheWithItsReason) {
  EXPECT_EQ(written_by(kNoDirect),
            "buffered; io_uring, threads: the file system refuses direct I/O");
}

TEST_F(WriterChoices, SecondRingThatIsRefusedLeavesThreads) {
  const auto found =
      written_by({.mode = FaultMode::fail, .nth = 2, .error = EMFILE, .call = "uring_open"});
  EXPECT_THAT(found, HasSubstr("threads; io_uring: cannot set up a ring"));
}

TEST_F(WriterChoices, RefusalIsAskedForOnce) {
  Writer writer;
  Shard shard = fakes::small_shard(1);
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EPERM, .call = "uring_open"});
  for (const char* name : {"a", "b", "c"}) writer.write(directory_, name, shard);
  EXPECT_EQ(faults.count(), 1);
}

TEST_F(WriterChoices, WhatWasAskedForIsAnErrorWhereItCannotBe) {
  expect_refused({.mode = FaultMode::fail, .error = EPERM, .call = "uring_open"},
                 WriterChoice::io_uring, "the writer 'io_uring' cannot write to");
  expect_refused(kNoDirect, WriterChoice::threads,
                 "the writer 'threads' cannot write to " + folder_.path().string() +
                     ": the file system refuses direct I/O");
}

TEST_F(WriterChoices, NamingLeavesNothing) {
  EXPECT_EQ(name_writer(directory_, {.choice = WriterChoice::buffered}), "buffered");
  const FaultyCalls faults(kNoDirect);
  EXPECT_THAT(name_writer(directory_), HasSubstr("buffered; "));
  EXPECT_TRUE(directory_.list().empty());
}

TEST_F(WriterChoices, RingThatFailsHalfWayIsAnError) {
  for (const char* call : {"uring_submit", "uring_wait"}) {
    SCOPED_TRACE(call);
    Shard shard({{"w", pattern(12 * kBlock, 1)}});
    Writer writer;
    const std::string name = std::string("half-") + call;
    {
      const FaultyCalls faults({.mode = FaultMode::fail, .nth = 3, .error = EBADF, .call = call});
      fakes::expect_error(ErrorCode::io, (folder_ / name).string(),
                          [&] { writer.write(directory_, name, shard); });
      EXPECT_TRUE(faults.was_reached());
    }
    // The next file has new rings.
    EXPECT_EQ(writer.write(directory_, name + "-next", shard).writer, "io_uring");
    EXPECT_TRUE(verify_file(folder_ / (name + "-next")).damage.empty());
  }
}

TEST_F(WriterChoices, RingThatIsBusyIsAskedAgain) {
  for (const int error : {EINTR, EAGAIN, EBUSY}) {
    EXPECT_EQ(
        written_by({.mode = FaultMode::fail, .nth = 2, .error = error, .call = "uring_submit"}),
        "io_uring");
  }
  EXPECT_EQ(written_by({.mode = FaultMode::fail, .nth = 2, .error = EINTR, .call = "uring_wait"}),
            "io_uring");
}

// fsync would not tell it a second time.
TEST_F(WriterChoices, FailedWriteBackIsAnError) {
  Shard shard({{"w", pattern(20 * kBlock, 1)}});
  Writer writer({.threads = 1, .choice = WriterChoice::buffered});
  // One thread: begins the first, begins the second, waits for the first.
  const FaultyCalls faults(
      {.mode = FaultMode::fail, .nth = 3, .error = EIO, .call = "sync_file_range"});
  fakes::expect_error(ErrorCode::io, "cannot write back " + (folder_ / "f").string(),
                      [&] { writer.write(directory_, "f", shard); });
  EXPECT_TRUE(faults.was_reached());
}

TEST_F(WriterChoices, RateThatCannotBeKeptIsRefused) {
  fakes::expect_error(ErrorCode::invalid, "at least 1048576",
                      [] { Writer writer({.max_rate = 1000}); });
}

}  // namespace
}  // namespace understudy::store
