#include "store/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

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

/// The first write that goes to a new file proves direct I/O; refuse it.
const Fault kNoDirect{.mode = FaultMode::fail, .nth = 1, .error = EINVAL, .call = "pwrite"};

/// How the blocks come, how the bytes go, and how much there is.
using Case = std::tuple<bool, bool, std::size_t>;

class WriterTest : public testing::Test {
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

class WriterSizes : public WriterTest, public testing::WithParamInterface<Case> {};

TEST_P(WriterSizes, WritesExactlyTheBytes) {
  const auto [in_place, direct, nbytes] = GetParam();
  Shard shard({{"w", pattern(nbytes, 1)}}, in_place);
  std::atomic<std::uint64_t> done = 0;
  Writer writer;
  Written written;
  {
    const FaultyCalls faults(direct ? Fault{} : kNoDirect);
    written = writer.write(directory_, "f", shard, &done);
  }
  if (direct && !written.writer.starts_with("direct")) GTEST_SKIP() << written.writer;
  if (!direct) {
    EXPECT_EQ(written.writer, "buffered (the file system refuses direct I/O)");
  }
  EXPECT_EQ(written.nbytes, shard.header_nbytes() + nbytes);
  EXPECT_EQ(done, written.nbytes);
  EXPECT_EQ(ShardReader(folder_ / "f").integrity()->digest, written.digest);
  expect_file("f", shard);
}

INSTANTIATE_TEST_SUITE_P(All, WriterSizes,
                         testing::Combine(testing::Bool(), testing::Bool(),
                                          testing::Values(0, 1, 4096, 4097, kBlock - 1, kBlock,
                                                          kBlock + 1, 5 * kBlock + 12'345)));

TEST_F(WriterTest, UsesItsThreadsAgain) {
  Writer writer(3);
  for (unsigned i = 0; i < 5; ++i) {
    Shard shard({{"w", pattern(2 * kBlock + i, i)}}, i % 2 == 0);
    writer.write(directory_, std::to_string(i), shard);
    expect_file(std::to_string(i), shard);
  }
}

TEST_F(WriterTest, SaysWhenSpaceIsNotReserved) {
  Shard shard = fakes::small_shard(1);
  Writer writer;
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EOPNOTSUPP, .call = "fallocate"});
  EXPECT_THAT(writer.write(directory_, "f", shard).writer,
              HasSubstr("space not reserved (the file system cannot)"));
  expect_file("f", shard);
}

TEST_F(WriterTest, FullDiskIsKnownBeforeAnythingIsWritten) {
  Shard shard({{"w", pattern(3 * kBlock, 1)}});
  Writer writer;
  std::atomic<std::uint64_t> done = 0;
  const FaultyCalls faults({.mode = FaultMode::fail, .error = ENOSPC, .call = "fallocate"});
  fakes::expect_error(ErrorCode::no_space, (folder_ / "f").string(),
                      [&] { writer.write(directory_, "f", shard, &done); });
  EXPECT_EQ(done, 0u);
}

TEST_F(WriterTest, FirstFailureOfABlockIsTold) {
  Shard shard({{"w", pattern(6 * kBlock, 1)}});
  Writer writer;
  {
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 4, .error = EIO, .call = "pwrite"});
    fakes::expect_error(ErrorCode::io, "cannot write " + (folder_ / "f").string(),
                        [&] { writer.write(directory_, "f", shard); });
    EXPECT_TRUE(faults.was_reached());
  }
  // The writer is not spoilt.
  writer.write(directory_, "g", shard);
  expect_file("g", shard);
}

TEST_F(WriterTest, UntilTheHeaderComesLastTheFileIsNone) {
  Shard shard = fakes::small_shard(1);
  Writer writer(1);
  // Writes: the proof of direct I/O, the block, the header.
  const FaultyCalls faults({.mode = FaultMode::fail, .nth = 3, .error = EIO, .call = "pwrite"});
  EXPECT_THROW(writer.write(directory_, "f", shard), Error);
  ASSERT_TRUE(faults.was_reached());
  EXPECT_EQ(fakes::read_text(folder_ / "f").substr(0, 8), std::string(8, '\0'));
  EXPECT_THROW(ShardReader(folder_ / "f"), Error);
}

TEST_F(WriterTest, SyncsTheFileAfterItsLastWrite) {
  Shard shard = fakes::small_shard(1);
  Writer writer(1);
  const FaultyCalls counting({});
  writer.write(directory_, "f", shard);
  const auto log = counting.log();
  const auto sync = std::ranges::find(log, "fsync");
  ASSERT_NE(sync, log.end());
  for (const char* call : {"pwrite", "ftruncate", "fallocate"}) {
    EXPECT_EQ(std::find(sync, log.end(), call), log.end()) << call << " after fsync";
  }
}

TEST_F(WriterTest, SourceThatThrowsIsTold) {
  struct Failing final : ShardSource {
    std::uint64_t header_nbytes() const override { return 4096; }
    std::uint64_t data_nbytes() const override { return 10 * kBlock; }
    std::span<const std::byte> block(std::uint64_t, std::span<std::byte>) override {
      throw Error(ErrorCode::io, "the source is gone");
    }
    std::vector<std::byte> seal(std::span<const std::uint64_t>, std::string&) override {
      return {};
    }
  } source;
  Writer writer;
  fakes::expect_error(ErrorCode::io, "the source is gone",
                      [&] { writer.write(directory_, "f", source); });
}

}  // namespace
}  // namespace understudy::store
