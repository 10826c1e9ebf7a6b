#include "restore/block_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/states.h"
#include "fakes/watched_reads.h"

namespace understudy::restore {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;
using format::kBlockNbytes;
using ::testing::HasSubstr;

class BlockReaderTest : public ::testing::Test {
 protected:
  BlockReaderTest() {
    save_file(Value::dict({{"w", Value(counting(DType::u8, {kNbytes}, 3))}}), path_);
    file_.emplace(path_);
    file_->file().read_at(file_->header().header_nbytes, bytes_);
  }

  void damage(std::uint64_t at) {
    std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(file_->header().header_nbytes + at));
    out.put(static_cast<char>(~std::to_integer<int>(bytes_[at])));
  }

  /// Reads all into one large run, which goes straight to its place, and checks it.
  void expect_whole() {
    std::vector<std::byte> memory(kNbytes);
    BlockReader reader(*file_, readers_);
    reader.read({{0, kNbytes, memory.data(), true}});
    EXPECT_EQ(memory, bytes_);
  }

  static constexpr std::int64_t kNbytes = 3 * kBlockNbytes + 12345;
  fakes::TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_.path() / "w.safetensors";
  std::optional<store::ShardReader> file_;
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kNbytes);
  WorkerPool readers_{"test", 3};
};

TEST_F(BlockReaderTest, BringsEveryRunToItsPlace) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 40; ++round) {
    std::vector<Destination> all;
    std::vector<std::vector<std::byte>> memory;
    const bool overlap = round % 4 < 2;
    std::uint64_t at = 0;
    for (int i = 0; i < 30; ++i) {
      // Of all sizes; in any order and overlapping in the file, or with gaps.
      auto nbytes = (random() % kNbytes) >> (random() % 24);
      if (!overlap) at += random() % 1000, nbytes = std::min(nbytes / 4, kNbytes - at);
      const auto begin = overlap ? random() % (kNbytes - nbytes + 1) : at;
      at = std::min<std::uint64_t>(at + nbytes, kNbytes);
      memory.emplace_back(nbytes);
      all.push_back({begin, nbytes, i % 7 == 0 ? nullptr : memory.back().data(), i % 3 == 0});
    }
    std::shuffle(all.begin(), all.end(), random);
    BlockReader(*file_, readers_, round % 2 == 0).read(all);
    for (const auto& d : all) {
      if (d.nbytes == 0 || d.to == nullptr) continue;
      ASSERT_EQ(std::memcmp(d.to, bytes_.data() + d.begin, d.nbytes), 0);
    }
  }
}

TEST_F(BlockReaderTest, ADamagedBlockIsNamedAndTheOthersCanBeRead) {
  damage(kBlockNbytes + 5);
  BlockReader reader(*file_, readers_);
  expect_error(ErrorCode::corrupt, "\"w\"", [&] { reader.verify_all(); });
  std::vector<std::byte> memory(kNbytes);
  const auto message = expect_error(ErrorCode::corrupt, "is damaged", [&] {
    reader.read({{0, kNbytes, memory.data(), false}});
  });
  EXPECT_THAT(message,
              HasSubstr(fmt::format("bytes {} to {}", file_->header().header_nbytes + kBlockNbytes,
                                    file_->header().header_nbytes + 2 * kBlockNbytes)));
  expect_error(ErrorCode::corrupt, "is damaged", [&] {
    reader.read({{kBlockNbytes, 100, memory.data(), false}});
  });
  expect_error(ErrorCode::corrupt, "is damaged", [&] {
    reader.read({{kBlockNbytes, 100, nullptr, false}});
  });
  reader.read({{7, 100, memory.data(), false}});
  EXPECT_EQ(std::memcmp(memory.data(), bytes_.data() + 7, 100), 0);
  BlockReader(*file_, readers_, false).read({{kBlockNbytes, 100, memory.data(), false}});
  EXPECT_NE(std::memcmp(memory.data(), bytes_.data() + kBlockNbytes, 100), 0);
}

TEST_F(BlockReaderTest, ReadsTheBlocksThatAreTouchedAndNoOthers) {
  std::vector<std::byte> memory(2 * kBlockNbytes);
  const auto read = [&](bool verify, std::uint64_t begin, std::uint64_t nbytes) {
    BlockReader reader(*file_, readers_, verify);
    const fakes::WatchedReads watched;
    reader.read({{begin, nbytes, memory.data(), false}});
    return watched.nbytes();
  };
  EXPECT_EQ(read(true, kBlockNbytes + 5, 100), kBlockNbytes);
  EXPECT_EQ(read(true, kBlockNbytes - 5, 10), 2 * kBlockNbytes);
  EXPECT_EQ(read(true, 5, kBlockNbytes), 2 * kBlockNbytes);
  EXPECT_EQ(read(true, kNbytes - 1, 1), 12345u);
  EXPECT_EQ(read(false, kBlockNbytes - 5, 10), 10u);
  EXPECT_EQ(read(false, 5, kBlockNbytes), kBlockNbytes);
  BlockReader reader(*file_, readers_, false);
  const fakes::WatchedReads watched;
  reader.read({{5, 100, memory.data(), false},
               {500, 7, memory.data() + 100, false},
               {2 * kBlockNbytes, 200000, memory.data() + 200, false}});
  EXPECT_EQ(watched.nbytes(), 200107u);
}

TEST_F(BlockReaderTest, EntriesThatLieTogetherAreReadOnce) {
  const format::Entry first{"a", "U8", {4}, 10, 14}, second{"b", "U8", {10}, 14, 24},
      across{"c", "U8", {10}, kBlockNbytes - 5, kBlockNbytes + 5};
  BlockReader reader(*file_, readers_);
  const fakes::WatchedReads watched;
  const auto expect = [&](const format::Entry& e) {
    const auto got = reader.bytes(e);
    ASSERT_EQ(got.size(), e.nbytes());
    EXPECT_EQ(std::memcmp(got.data(), bytes_.data() + e.begin, got.size()), 0);
  };
  for (int i = 0; i < 100; ++i) expect(first), expect(second);
  EXPECT_EQ(watched.nbytes(), kBlockNbytes);
  expect(across);
  EXPECT_EQ(watched.nbytes(), 2 * kBlockNbytes);
  EXPECT_EQ(BlockReader(*file_, readers_, false).bytes(second), reader.bytes(second));
}

TEST_F(BlockReaderTest, SaysHowItRead) {
  BlockReader reader(*file_, readers_);
  EXPECT_EQ(reader.how(), "");
  reader.verify_all();
  EXPECT_THAT(reader.how(), testing::MatchesRegex(
                                "page cache, [0-9]+ threads?: the file was (in memory|on disk)"));
  std::vector<std::byte> memory(kNbytes);
  reader.read({{0, kNbytes, memory.data(), true}});
  EXPECT_THAT(reader.how(), HasSubstr("; new memory in "));
}

TEST_F(BlockReaderTest, ShortReadsAndInterruptionsAreNoFailures) {
  for (const Fault& fault :
       {Fault{FaultMode::short_count, 0, 0, "pread"}, Fault{FaultMode::fail, 3, EINTR, "pread"},
        Fault{FaultMode::fail, 3, EAGAIN, "pread"}}) {
    const FaultyCalls faults(fault);
    expect_whole();
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST_F(BlockReaderTest, WithoutAHandleForEachThreadTheyShareOne) {
  // The pages go, so that the disk is asked and threads want handles; a file
  // system in memory keeps them.
  file_->file().sync();
  if (posix_fadvise(file_->file().fd(), 0, 0, POSIX_FADV_DONTNEED) != 0 ||
      file_->file().is_cached(std::vector<std::uint64_t>{0})) {
    GTEST_SKIP() << "the page cache keeps this file";
  }
  const FaultyCalls faults({FaultMode::fail, 0, EMFILE, "open"});
  expect_whole();
  EXPECT_TRUE(faults.was_reached());
}

TEST_F(BlockReaderTest, FailuresNameFileAndOffset) {
  struct Case {
    Fault fault;
    ErrorCode code;
    std::string part;
  };
  for (const auto& [fault, code, part] :
       {Case{{FaultMode::fail, 5, EIO, "pread"}, ErrorCode::io, "Input/output error"},
        Case{{FaultMode::fail, 0, EAGAIN, "pread"}, ErrorCode::io, "temporarily unavailable"},
        Case{{FaultMode::zero_count, 5, 0, "pread"}, ErrorCode::corrupt, "ends at byte"}}) {
    BlockReader reader(*file_, readers_);
    const FaultyCalls faults(fault);
    const auto message = expect_error(code, part, [&] { reader.verify_all(); });
    EXPECT_TRUE(faults.was_reached());
    EXPECT_THAT(message, HasSubstr(path_.native()));
    EXPECT_THAT(message, testing::ContainsRegex("bytes? [0-9]+"));
  }
  expect_whole();
}

TEST_F(BlockReaderTest, AFileThatIsCutIsAnError) {
  const fakes::WatchedReads watched(
      3, [&] { std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1); });
  BlockReader reader(*file_, readers_);
  expect_error(ErrorCode::corrupt, "ends at byte", [&] { reader.verify_all(); });
  EXPECT_TRUE(watched.was_reached());
}

TEST_F(BlockReaderTest, AFileThatIsReplacedIsReadToItsEnd) {
  save_file(Value::dict({{"w", Value(counting(DType::u8, {kNbytes}, 99))}}),
            folder_.path() / "other");
  const fakes::WatchedReads watched(
      3, [&] { std::filesystem::rename(folder_.path() / "other", path_); });
  expect_whole();
  EXPECT_TRUE(watched.was_reached());
}

}  // namespace
}  // namespace understudy::restore
