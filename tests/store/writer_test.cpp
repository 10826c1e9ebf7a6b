// What every writer must do, written once and run over each of them.
#include "store/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/reader.h"
#include "store/verify.h"

namespace understudy::store {
namespace {

using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;
using fakes::pattern;
using fakes::Shard;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::size_t kBlock = format::kBlockNbytes;

struct Named {
  WriterChoice choice;
  std::string name;
  /// The calls that tell what a write of bytes has come to.
  std::string write_call;
};

void PrintTo(const Named& writer, std::ostream* out) {
  *out << writer.name;
}

const Named kWriters[] = {{WriterChoice::io_uring, "io_uring", "uring_result"},
                          {WriterChoice::threads, "threads", "pwrite"},
                          {WriterChoice::buffered, "buffered", "pwrite"}};

class WriterFolder : public testing::Test {
 protected:
  void expect_file(const std::string& name, const Shard& shard) {
    const std::string text = fakes::read_text(folder_ / name);
    ASSERT_EQ(text.size(), shard.header_nbytes() + shard.data_nbytes());
    EXPECT_EQ(
        std::memcmp(text.data() + shard.header_nbytes(), shard.data().data(), shard.data_nbytes()),
        0);
    EXPECT_TRUE(verify_file(folder_ / name).damage.empty());
  }

  fakes::TemporaryFolder folder_;
  os::Directory directory_ = os::Directory::open(folder_.path());
};

class EachWriter : public WriterFolder, public testing::WithParamInterface<Named> {
 protected:
  void SetUp() override {
    try {
      name_writer(directory_, {.choice = GetParam().choice});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  Writer make(WriterOptions options = {}) const {
    options.choice = GetParam().choice;
    return Writer(options);
  }

  /// The nth write fails with `error` once, for ever after it, or in another way.
  Fault at_write(int nth, FaultMode mode, int error = 0) const {
    // The first pwrite of a direct file proves direct I/O.
    const bool has_proof = GetParam().choice == WriterChoice::threads;
    return {.mode = mode,
            .nth = nth + (has_proof ? 1 : 0),
            .error = error,
            .call = GetParam().write_call};
  }

  /// The file is whole in spite of the fault.
  void expect_whole_in_spite_of(const Fault& fault, bool in_place) {
    Shard shard({{"w", pattern(5 * kBlock + 1234, 1)}}, in_place);
    Writer writer = make();
    {
      const FaultyCalls faults(fault);
      writer.write(directory_, "f", shard);
      EXPECT_TRUE(faults.was_reached());
    }
    expect_file("f", shard);
  }

  /// The error is told, and the writer is not spoilt.
  void expect_told(const Fault& fault, ErrorCode code, const std::string& text) {
    Shard shard({{"w", pattern(9 * kBlock, 1)}});
    Writer writer = make();
    {
      const FaultyCalls faults(fault);
      fakes::expect_error(code, text, [&] { writer.write(directory_, "f", shard); });
      EXPECT_TRUE(faults.was_reached());
    }
    EXPECT_EQ(writer.write(directory_, "g", shard).writer, GetParam().name);
    expect_file("g", shard);
  }
};

TEST_P(EachWriter, IsTheOneThatRan) {
  Shard shard({{"w", pattern(3 * kBlock, 1)}});
  const FaultyCalls counting({});
  EXPECT_EQ(make().write(directory_, "f", shard).writer, GetParam().name);
  const auto log = counting.log();
  const auto count = [&](const char* name) { return std::ranges::count(log, name); };
  const bool is_ring = GetParam().choice == WriterChoice::io_uring;
  const bool is_buffered = GetParam().choice == WriterChoice::buffered;
  EXPECT_EQ(count("uring_result"), is_ring ? 3 : 0);
  // The header's, the proof of direct I/O, the blocks'.
  EXPECT_EQ(count("pwrite"), 1 + (is_buffered ? 0 : 1) + (is_ring ? 0 : 3));
  EXPECT_EQ(count("sync_file_range") > 0, is_buffered);
}

TEST_P(EachWriter, WritesExactlyTheBytes) {
  for (const bool in_place : {true, false}) {
    for (const std::size_t nbytes :
         {std::size_t{0}, std::size_t{1}, std::size_t{4096}, std::size_t{4097}, kBlock - 1, kBlock,
          kBlock + 1, 5 * kBlock + 12'345, 20 * kBlock}) {
      SCOPED_TRACE(std::to_string(nbytes) + (in_place ? " in place" : " gathered"));
      Shard shard({{"w", pattern(nbytes, 1)}}, in_place);
      std::atomic<std::uint64_t> done = 0;
      const std::string name = std::to_string(nbytes) + (in_place ? "p" : "g");
      const Written written = make().write(directory_, name, shard, &done);
      EXPECT_EQ(written.nbytes, shard.header_nbytes() + nbytes);
      EXPECT_EQ(done, written.nbytes);
      EXPECT_EQ(ShardReader(folder_ / name).integrity()->digest, written.digest);
      expect_file(name, shard);
    }
  }
}

TEST_P(EachWriter, UsesItsThreadsAgain) {
  for (const int threads : {1, 3}) {
    Writer writer = make({.threads = threads});
    for (unsigned i = 0; i < 5; ++i) {
      Shard shard({{"w", pattern(2 * kBlock + i, i)}}, i % 2 == 0);
      const std::string name = std::to_string(threads) + "-" + std::to_string(i);
      writer.write(directory_, name, shard);
      expect_file(name, shard);
    }
  }
}

TEST_P(EachWriter, LeavesThePageCacheAlone) {
  struct statfs file_system;
  ASSERT_EQ(statfs(folder_.path().c_str(), &file_system), 0);
  constexpr long kTmpfs = 0x01021994;
  if (file_system.f_type == kTmpfs) GTEST_SKIP() << "a file system in memory is all cache";
  Shard shard({{"w", pattern(20 * kBlock, 1)}});
  make().write(directory_, "f", shard);
  const os::File file = directory_.open_file("f");
  const std::uint64_t nbytes = file.size();
  void* at = mmap(nullptr, nbytes, PROT_READ, MAP_SHARED, file.fd(), 0);
  ASSERT_NE(at, MAP_FAILED);
  std::vector<unsigned char> pages((nbytes + 4095) / 4096);
  ASSERT_EQ(mincore(at, nbytes, pages.data()), 0);
  munmap(at, nbytes);
  const auto resident = std::ranges::count_if(pages, [](auto page) { return (page & 1) != 0; });
  // The buffered header is the one thing that may stay.
  EXPECT_LE(resident, static_cast<std::ptrdiff_t>(shard.header_nbytes() / 4096));
}

TEST_P(EachWriter, SaysWhenSpaceIsNotReserved) {
  Shard shard = fakes::small_shard(1);
  Writer writer = make();
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EOPNOTSUPP, .call = "fallocate"});
  EXPECT_EQ(writer.write(directory_, "f", shard).writer,
            GetParam().name + ", space not reserved (the file system cannot)");
  expect_file("f", shard);
}

TEST_P(EachWriter, FullDiskIsKnownBeforeAnythingIsWritten) {
  Shard shard({{"w", pattern(3 * kBlock, 1)}});
  Writer writer = make();
  std::atomic<std::uint64_t> done = 0;
  const FaultyCalls faults({.mode = FaultMode::fail, .error = ENOSPC, .call = "fallocate"});
  fakes::expect_error(ErrorCode::no_space, (folder_ / "f").string(),
                      [&] { writer.write(directory_, "f", shard, &done); });
  EXPECT_TRUE(faults.was_reached());
  EXPECT_EQ(done, 0u);
}

TEST_P(EachWriter, ShortWritesAreCarriedOn) {
  for (const bool in_place : {true, false}) {
    if (directory_.exists("f")) directory_.remove_file("f");
    expect_whole_in_spite_of(at_write(2, FaultMode::short_count), in_place);
  }
}

TEST_P(EachWriter, InterruptedWritesAreMadeAgain) {
  expect_whole_in_spite_of(at_write(3, FaultMode::fail, EINTR), true);
}

TEST_P(EachWriter, WritesThatMustWaitAreMadeAgain) {
  expect_whole_in_spite_of(at_write(3, FaultMode::fail, EAGAIN), false);
}

TEST_P(EachWriter, WritesThatAlwaysMustWaitAreGivenUp) {
  expect_told({.mode = FaultMode::fail, .error = EAGAIN, .call = GetParam().write_call},
              ErrorCode::io, "cannot write " + (folder_ / "f").string());
}

TEST_P(EachWriter, WritesThatBringNothingAreGivenUp) {
  Fault fault = at_write(2, FaultMode::zero_count);
  expect_told(fault, ErrorCode::io, "the system took 0 of");
}

TEST_P(EachWriter, FullDiskInTheMiddleIsTold) {
  expect_told(at_write(4, FaultMode::fail, ENOSPC), ErrorCode::no_space,
              "cannot write " + (folder_ / "f").string());
}

TEST_P(EachWriter, BrokenDiskInTheMiddleIsTold) {
  expect_told(at_write(4, FaultMode::fail, EIO), ErrorCode::io,
              "cannot write " + (folder_ / "f").string());
}

TEST_P(EachWriter, FailedFsyncIsFinal) {
  for (const auto& [error, code] :
       {std::pair{EIO, ErrorCode::io}, std::pair{ENOSPC, ErrorCode::no_space}}) {
    Shard shard = fakes::small_shard(1);
    Writer writer = make();
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 1, .error = error, .call = "fsync"});
    const std::string name = std::to_string(error);
    fakes::expect_error(code, "cannot sync " + (folder_ / name).string(),
                        [&] { writer.write(directory_, name, shard); });
    EXPECT_EQ(faults.count(), 1);  // not tried again
  }
}

TEST_P(EachWriter, UntilTheHeaderComesLastTheFileIsNone) {
  Shard shard = fakes::small_shard(1);
  Writer writer = make({.threads = 1});
  // pwrite: the proof of direct I/O, the block, the header.
  const int nth = GetParam().choice == WriterChoice::threads ? 3 : 2;
  const FaultyCalls faults({.mode = FaultMode::fail, .nth = nth, .error = EIO, .call = "pwrite"});
  EXPECT_THROW(writer.write(directory_, "f", shard), Error);
  ASSERT_TRUE(faults.was_reached());
  EXPECT_EQ(fakes::read_text(folder_ / "f").substr(0, 8), std::string(8, '\0'));
  EXPECT_THROW(ShardReader(folder_ / "f"), Error);
}

TEST_P(EachWriter, SyncsTheFileAfterItsLastWrite) {
  Shard shard({{"w", pattern(3 * kBlock, 1)}});
  Writer writer = make();
  const FaultyCalls counting({});
  writer.write(directory_, "f", shard);
  const auto log = counting.log();
  const auto sync = std::ranges::find(log, "fsync");
  ASSERT_NE(sync, log.end());
  for (const char* call : {"pwrite", "uring_result", "ftruncate", "fallocate"}) {
    EXPECT_EQ(std::find(sync, log.end(), call), log.end()) << call << " after fsync";
  }
}

TEST_P(EachWriter, SourceThatThrowsIsTold) {
  struct Failing final : ShardSource {
    std::uint64_t header_nbytes() const override { return 4096; }
    std::uint64_t data_nbytes() const override { return 10 * kBlock; }
    std::span<const std::byte> block(std::uint64_t index, std::span<std::byte> scratch) override {
      if (index < 5) return scratch;
      throw Error(ErrorCode::io, "the source is gone");
    }
    std::vector<std::byte> seal(std::span<const std::uint64_t>, std::string&) override {
      return {};
    }
  } source;
  Writer writer = make();
  fakes::expect_error(ErrorCode::io, "the source is gone",
                      [&] { writer.write(directory_, "f", source); });
  Shard shard = fakes::small_shard(1);
  writer.write(directory_, "g", shard);
  expect_file("g", shard);
}

// A lower bound: a machine that is slower passes all the more.
TEST_P(EachWriter, KeepsToItsRate) {
  Shard shard({{"w", pattern(5 * kBlock, 1)}});
  constexpr std::uint64_t kRate = 100 << 20;
  const auto began = std::chrono::steady_clock::now();
  const Written written = make({.max_rate = kRate}).write(directory_, "f", shard);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  EXPECT_GE(took.count(), static_cast<double>(written.nbytes) / kRate);
  expect_file("f", shard);
}

INSTANTIATE_TEST_SUITE_P(Of, EachWriter, testing::ValuesIn(kWriters),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace understudy::store
