#include "restore/scatter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "format/integrity.h"

namespace understudy::restore {
namespace {

using fakes::counting;

class ScatterTest : public ::testing::Test {
 protected:
  ScatterTest() {
    save_file(Value::dict({{"w", Value(counting(DType::u8, {kNbytes}, 3))}}), file_);
    reader_.emplace(file_);
    reader_->file().read_at(reader_->header().header_nbytes, bytes_);
  }

  static constexpr std::int64_t kNbytes = 3 * format::kBlockNbytes + 12345;
  fakes::TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "w.safetensors";
  std::optional<store::ShardReader> reader_;
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kNbytes);
  WorkerPool readers_{"test", 3};
};

TEST_F(ScatterTest, BringsEveryRunToItsPlace) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<Destination> all;
    std::vector<std::vector<std::byte>> memory;
    for (int i = 0; i < 30; ++i) {
      // Of all sizes, in any order, overlapping in the file.
      const auto nbytes = (random() % kNbytes) >> (random() % 24);
      const auto begin = random() % (kNbytes - nbytes + 1);
      memory.emplace_back(nbytes);
      all.push_back({begin, nbytes, memory.back().data()});
    }
    scatter(*reader_, all, readers_);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].nbytes == 0) continue;
      ASSERT_EQ(std::memcmp(memory[i].data(), bytes_.data() + all[i].begin, all[i].nbytes), 0);
    }
  }
}

TEST_F(ScatterTest, ADamagedBlockIsNamedAndReachesNobody) {
  std::fstream out(file_, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(
      static_cast<std::streamoff>(reader_->header().header_nbytes + format::kBlockNbytes + 5));
  out.put('\x7f');
  out.close();
  fakes::expect_error(ErrorCode::corrupt, "\"w\"", [&] { verify_all(*reader_, readers_); });
  std::vector<std::byte> memory(100);
  fakes::expect_error(ErrorCode::corrupt, "is damaged", [&] {
    scatter(*reader_, {{format::kBlockNbytes, memory.size(), memory.data()}}, readers_);
  });
  EXPECT_THAT(memory, ::testing::Each(std::byte{0}));
  // The other blocks can be read.
  scatter(*reader_, {{7, memory.size(), memory.data()}}, readers_);
  EXPECT_EQ(std::memcmp(memory.data(), bytes_.data() + 7, memory.size()), 0);
}

TEST_F(ScatterTest, AFileThatIsCutIsAnError) {
  std::filesystem::resize_file(file_, std::filesystem::file_size(file_) - 1);
  fakes::expect_error(ErrorCode::corrupt, "", [&] { verify_all(*reader_, readers_); });
}

}  // namespace
}  // namespace understudy::restore
