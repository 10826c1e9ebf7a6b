#include "store/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::size_t kBlock = format::kBlockNbytes;

/// Opens the step and reads all of it, as restore does. Throws where damaged.
void read_all(const fs::path& step) {
  const ShardReader reader = open_step(look_at_step(step));
  std::vector<std::byte> bytes(kBlock);
  for (std::uint64_t i = 0; i < format::block_count(reader.header().data_nbytes); ++i) {
    reader.read_block(i, bytes);
  }
}

TEST(Verify, EveryFlippedBitOfAStepIsFoundAndNamed) {
  RunFolder run(fakes::memory_folder());
  run.commit(1, 1);
  const fs::path step = run / "step-1";
  ASSERT_NO_THROW(read_all(step));
  for (const std::string& name : {std::string(kShardName), std::string(kManifestName)}) {
    const std::string whole = fakes::read_text(step / name);
    const int fd = open((step / name).c_str(), O_WRONLY);
    for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
      const auto at = static_cast<off_t>(bit / 8);
      const char flipped = static_cast<char>(whole[bit / 8] ^ (1 << bit % 8));
      ASSERT_EQ(pwrite(fd, &flipped, 1, at), 1);
      const FileCheck check = verify_step(step);
      ASSERT_EQ(check.damage.size(), 1u) << name << " bit " << bit;
      ASSERT_EQ(check.damage[0].file, step / name);
      try {
        read_all(step);
        FAIL() << name << " bit " << bit << " was not seen by reading";
      } catch (const Error& error) {
        ASSERT_THAT(error.what(), HasSubstr(name)) << "bit " << bit;
      }
      ASSERT_EQ(pwrite(fd, &whole[bit / 8], 1, at), 1);
    }
    close(fd);
  }
  EXPECT_TRUE(verify_step(step).damage.empty());
}

TEST(Verify, FindsAllDamagedBlocks) {
  fakes::TemporaryFolder folder;
  const os::Directory directory = os::Directory::open(folder.path());
  fakes::Shard shard({{"a", fakes::pattern(3 * kBlock, 1)}, {"b", fakes::pattern(2 * kBlock, 2)}});
  Writer().write(directory, "f", shard);
  std::string text = fakes::read_text(folder / "f");
  for (const std::size_t block : {1u, 4u}) text[shard.header_nbytes() + block * kBlock + 5] ^= 1;
  fakes::write_text(folder / "f", text);

  std::vector<std::uint64_t> progress;
  std::uint64_t total = 0;
  const FileCheck check = verify_file(folder / "f", [&](std::uint64_t done, std::uint64_t all) {
    progress.push_back(done);
    total = all;
  });
  EXPECT_TRUE(check.has_checksums);
  EXPECT_EQ(check.nbytes, text.size());
  EXPECT_EQ(total, text.size());
  EXPECT_EQ(progress.back(), text.size());
  EXPECT_TRUE(std::ranges::is_sorted(progress));
  ASSERT_EQ(check.damage.size(), 2u);
  EXPECT_EQ(check.damage[0].offset, shard.header_nbytes() + kBlock);
  EXPECT_THAT(check.damage[0].what, HasSubstr("entry \"a\""));
  EXPECT_EQ(check.damage[1].offset, shard.header_nbytes() + 4 * kBlock);
  EXPECT_THAT(check.damage[1].what, HasSubstr("entry \"b\""));
}

TEST(Verify, BlockThatCannotBeReadIsDamage) {
  fakes::TemporaryFolder folder;
  const os::Directory directory = os::Directory::open(folder.path());
  fakes::Shard shard = fakes::small_shard(1);
  Writer().write(directory, "f", shard);
  // Reads: the header's length, the header, the block.
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .nth = 3, .error = EIO, .call = "pread"});
  const FileCheck check = verify_file(folder / "f");
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_THAT(check.damage[0].what, HasSubstr("Input/output error"));
}

TEST(Verify, TornFilesAreDamagedAndMissingOnesAnError) {
  fakes::TemporaryFolder folder;
  const os::Directory directory = os::Directory::open(folder.path());
  fakes::Shard shard = fakes::small_shard(1);
  Writer().write(directory, "f", shard);
  const std::string whole = fakes::read_text(folder / "f");
  for (std::size_t n = 0; n < whole.size(); n += 97) {
    fakes::write_text(folder / "f", whole.substr(0, n));
    const FileCheck check = verify_file(folder / "f");
    ASSERT_EQ(check.damage.size(), 1u) << n;
  }
  fakes::write_text(folder / "f", whole + "x");
  EXPECT_EQ(verify_file(folder / "f").damage.size(), 1u);
  fakes::expect_error(ErrorCode::not_found, "none", [&] { verify_file(folder / "none"); });
  fakes::expect_error(ErrorCode::not_found, "none", [&] { verify_step(folder / "none"); });
}

TEST(Verify, FilesOfOthersHaveNoChecksums) {
  fakes::TemporaryFolder folder;
  std::string header = R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  std::string prefix(8, '\0');
  prefix[0] = static_cast<char>(header.size());
  fakes::write_text(folder / "f", prefix + header + "abc");
  const FileCheck check = verify_file(folder / "f");
  EXPECT_FALSE(check.has_checksums);
  EXPECT_TRUE(check.damage.empty());
}

TEST(Verify, FindsEverythingWrongWithAStep) {
  RunFolder run;
  run.commit(1, 1);
  const fs::path step = run / "step-1";
  fakes::write_text(step / "extra", "");
  std::string text = fakes::read_text(step / kShardName);
  text.back() = static_cast<char>(text.back() ^ 1);
  fakes::write_text(step / kShardName, text);
  FileCheck check = verify_step(step);
  ASSERT_EQ(check.damage.size(), 2u);
  EXPECT_EQ(check.damage[0].file, step / "extra");
  EXPECT_EQ(check.damage[1].file, step / kShardName);
  EXPECT_THAT(check.damage[1].what, HasSubstr("entry \"w\" and 1 more"));

  // The shard is still checked by itself where the manifest is gone.
  fs::remove(step / kManifestName);
  check = verify_step(step);
  ASSERT_EQ(check.damage.size(), 2u);
  EXPECT_EQ(check.damage[0].file, step / kManifestName);
  EXPECT_EQ(check.damage[1].file, step / kShardName);
}

TEST(Verify, NotBeingAbleToLookIsAnError) {
  RunFolder run;
  run.commit(1, 1);
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .error = EACCES, .call = "pread"});
  fakes::expect_error(ErrorCode::io, "cannot be verified", [&] { verify_step(run / "step-1"); });
}

TEST(Verify, FindsMissingTruncatedAndForeignShards) {
  RunFolder run;
  run.commit(1, 1);
  run.commit(2, 2);
  const fs::path shard = run / "step-1" / kShardName;
  fs::rename(shard, run / "away");
  FileCheck check = verify_step(run / "step-1");
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_EQ(check.damage[0].file, shard);

  fs::copy(run / "away", shard);
  fs::resize_file(shard, 4099);
  check = verify_step(run / "step-1");
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_EQ(check.damage[0].offset, 4099u);

  fs::copy(run / "step-2" / kShardName, shard, fs::copy_options::overwrite_existing);
  check = verify_step(run / "step-1");
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_THAT(check.damage[0].what, HasSubstr("its digest is another"));

  fs::remove_all(run / "step-1");
  fs::copy(run / "step-2", run / "step-1");
  check = verify_step(run / "step-1");
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_EQ(check.damage[0].file, run / "step-1" / kManifestName);
}

}  // namespace
}  // namespace understudy::store
