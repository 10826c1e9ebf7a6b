#include "store/reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using testing::HasSubstr;

constexpr std::size_t kBlock = format::kBlockNbytes;

void flip(const fs::path& path, std::uint64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(byte ^ 4));
  ASSERT_TRUE(file.flush());
}

/// A safetensors file of somebody else's: no checksums.
std::string foreign_file() {
  std::string header = R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})";
  std::string out(8, '\0');
  out[0] = static_cast<char>(header.size());
  return out + header + "abc";
}

TEST(ShardReader, ReadsBlocks) {
  fakes::TemporaryFolder folder;
  const os::Directory directory = os::Directory::open(folder.path());
  fakes::Shard shard({{"a", fakes::pattern(kBlock - 10, 1)},
                      {"b", fakes::pattern(20, 2)},
                      {"c", fakes::pattern(kBlock, 3)}});
  Writer().write(directory, "f", shard);
  const ShardReader reader(folder / "f");
  EXPECT_EQ(reader.name(), (folder / "f").string());
  EXPECT_EQ(reader.file_nbytes(), fs::file_size(folder / "f"));
  EXPECT_EQ(reader.header().entries.size(), 3u);
  EXPECT_EQ(reader.block_nbytes(0), kBlock);
  EXPECT_EQ(reader.block_nbytes(1), kBlock);
  EXPECT_EQ(reader.block_nbytes(2), 10u);
  std::vector<std::byte> bytes(kBlock);
  for (std::uint64_t i = 0; i < 3; ++i) {
    reader.read_block(i, bytes);
    const auto wanted = shard.data().subspan(i * kBlock, reader.block_nbytes(i));
    EXPECT_TRUE(std::ranges::equal(wanted, std::span(bytes).first(wanted.size())));
  }
}

TEST(ShardReader, DamageNamesFileOffsetAndEntry) {
  fakes::TemporaryFolder folder;
  const os::Directory directory = os::Directory::open(folder.path());
  fakes::Shard shard({{"a", fakes::pattern(kBlock - 10, 1)},
                      {"empty", ""},
                      {"b", fakes::pattern(20, 2)},
                      {"c", fakes::pattern(kBlock, 3)}});
  Writer().write(directory, "f", shard);
  flip(folder / "f", shard.header_nbytes() + kBlock + 100);
  const ShardReader reader(folder / "f");
  std::vector<std::byte> bytes(kBlock);
  reader.read_block(0, bytes);
  const std::string message = expect_error(ErrorCode::corrupt, (folder / "f").string(),
                                           [&] { reader.read_block(1, bytes); });
  EXPECT_THAT(message, HasSubstr(fmt::format("bytes {} to {}", shard.header_nbytes() + kBlock,
                                             shard.header_nbytes() + 2 * kBlock)));
  EXPECT_THAT(message, HasSubstr("(entry \"b\" and 1 more)"));
  reader.read_block(1, bytes, /*verify=*/false);
}

TEST(ShardReader, OpensFilesOfOthers) {
  fakes::TemporaryFolder folder;
  fakes::write_text(folder / "f", foreign_file());
  const ShardReader reader(folder / "f");
  EXPECT_FALSE(reader.integrity().has_value());
  std::vector<std::byte> bytes(3);
  reader.read_block(0, bytes);
  EXPECT_EQ(bytes[2], std::byte{'c'});
}

TEST(ShardReader, NamesTheFileThatIsNone) {
  fakes::TemporaryFolder folder;
  for (const std::string& text :
       {std::string(), std::string("abc"), std::string(8, '\0'), std::string(5000, '\0'),
        foreign_file() + "x", foreign_file().substr(0, 20)}) {
    fakes::write_text(folder / "f", text);
    expect_error(ErrorCode::corrupt, (folder / "f").string(), [&] { ShardReader(folder / "f"); });
  }
  expect_error(ErrorCode::not_found, "none", [&] { ShardReader(folder / "none"); });
  expect_error(ErrorCode::invalid, "plain file", [&] { ShardReader(folder.path()); });
}

class StepFolders : public testing::Test {
 protected:
  void SetUp() override {
    run_.commit(1, 1);
    run_.commit(2, 2);
  }

  /// The problem of step 2, found at a glance, and by opening it.
  std::string problem() const {
    const StepFolder step = look_at_step(run_ / "step-2");
    EXPECT_FALSE(step.is_complete());
    expect_error(ErrorCode::corrupt, (run_ / "step-2").string(), [&] { open_step(step); });
    EXPECT_EQ(run_.steps(), std::vector<std::int64_t>{1});
    EXPECT_EQ(look_at_steps(run_.path()).size(), 2u) << "damaged, not hidden";
    return step.problem;
  }

  RunFolder run_;
};

TEST_F(StepFolders, AreListedByNumber) {
  run_.commit(10, 3);
  fs::create_directory(run_ / "step-03");
  fs::create_directory(run_ / "step-4.tmp-0123abcd");
  fakes::write_text(run_ / "step-5", "a file");
  fs::create_directory_symlink("nowhere", run_ / "step-6");
  EXPECT_EQ(run_.steps(), (std::vector<std::int64_t>{1, 2, 10}));
  EXPECT_EQ(look_at_steps(run_.path()).size(), 3u);
  fakes::TemporaryFolder empty;
  EXPECT_TRUE(look_at_steps(empty.path()).empty());
}

TEST_F(StepFolders, MayBeLinks) {
  fs::rename(run_ / "step-1", run_ / "elsewhere");
  fs::create_directory_symlink("elsewhere", run_ / "step-1");
  run_.expect_step(1, 1);
  EXPECT_EQ(run_.steps(), (std::vector<std::int64_t>{1, 2}));
}

TEST_F(StepFolders, PathsMayEndInASlash) {
  EXPECT_EQ(look_at_step(run_.path().string() + "/step-1/").step, 1);
  const fs::path before = fs::current_path();
  fs::current_path(run_.path());
  EXPECT_TRUE(look_at_step("step-1").is_complete());
  EXPECT_EQ(open_step(look_at_step("step-1")).name(), std::string("step-1/") + kShardName);
  fs::current_path(before);
  expect_error(ErrorCode::not_found, "step-9", [&] { look_at_step(run_ / "step-9"); });
}

TEST_F(StepFolders, UnderAnotherNameKeepTheirNumber) {
  fs::rename(run_ / "step-2", run_ / "best");
  const StepFolder step = look_at_step(run_ / "best");
  EXPECT_TRUE(step.is_complete()) << step.problem;
  EXPECT_EQ(step.step, 2);
}

TEST_F(StepFolders, WithoutManifestAreTorn) {
  fs::remove(run_ / "step-2/checkpoint.json");
  EXPECT_THAT(problem(), HasSubstr("checkpoint.json: No such file"));
}

TEST_F(StepFolders, OfAnotherNumberAreFound) {
  fs::remove_all(run_ / "step-2");
  fs::copy(run_ / "step-1", run_ / "step-2");
  EXPECT_THAT(problem(), HasSubstr("the manifest is that of step 1"));
}

TEST_F(StepFolders, MissingAndResizedFilesAreFoundAndOthersTolerated) {
  const fs::path shard = run_ / "step-2" / kShardName;
  fs::rename(shard, run_ / "away");
  EXPECT_THAT(problem(), HasSubstr(std::string(kShardName) + " is missing"));
  fs::rename(run_ / "away", shard);
  fakes::write_text(run_ / "step-2/extra", "");
  EXPECT_TRUE(look_at_step(run_ / "step-2").is_complete());
  fs::remove(run_ / "step-2/extra");
  const auto nbytes = fs::file_size(shard);
  for (const auto wrong : {nbytes - 1, nbytes + 1, decltype(nbytes){0}}) {
    fs::resize_file(shard, wrong);
    EXPECT_THAT(problem(),
                HasSubstr(fmt::format("has {} bytes where the manifest says {}", wrong, nbytes)));
  }
  fs::remove(shard);
  fs::create_directory(shard);
  EXPECT_THAT(problem(), HasSubstr("is not a plain file"));
}

TEST_F(StepFolders, HugeManifestIsNotRead) {
  fs::resize_file(run_ / "step-2/checkpoint.json", std::uintmax_t{1} << 40);
  EXPECT_THAT(problem(), HasSubstr("no manifest has more than"));
}

TEST_F(StepFolders, OfNewerVersionsAreNamedUnsupported) {
  Manifest manifest = *look_at_step(run_ / "step-2").manifest;
  manifest.major = 2;
  fakes::write_text(run_ / "step-2/checkpoint.json", write_manifest(manifest));
  const StepFolder step = look_at_step(run_ / "step-2");
  EXPECT_FALSE(step.is_complete());
  expect_error(ErrorCode::unsupported, "format version 2.0", [&] { open_step(step); });
  expect_error(ErrorCode::unsupported, "format version 2.0", [&] { verify_step(run_ / "step-2"); });
}

TEST_F(StepFolders, ShardOfAnotherStepIsFoundWhenOpened) {
  fs::remove(run_ / "step-2" / kShardName);
  fs::copy(run_ / "step-1" / kShardName, run_ / "step-2" / kShardName);
  const StepFolder step = look_at_step(run_ / "step-2");
  ASSERT_TRUE(step.is_complete()) << "the sizes are the same";
  expect_error(ErrorCode::corrupt, "its digest is another", [&] { open_step(step); });
}

TEST_F(StepFolders, RemovedWhileLookedAtIsNoDamage) {
  // Retention takes the step between its manifest and its shard.
  static fs::path step;
  step = run_ / "step-1";
  os::Calls table = os::system_calls();
  table.openat = [](int dir, const char* path, int flags, mode_t mode) {
    if (std::string(path) == kShardName && fs::exists(step)) {
      fs::rename(step, step.string() + ".del-0123abcd");
      fs::remove(step.string() + ".del-0123abcd/" + kShardName);
    }
    return ::openat(dir, path, flags, mode);
  };
  const os::ReplaceCalls replaced(table);
  const auto steps = look_at_steps(run_.path());
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].step, 2);
  EXPECT_TRUE(steps[0].is_complete());
}

TEST_F(StepFolders, ReplacedWhileLookedAtIsLookedAtAgain) {
  static fs::path run;
  run = run_.path();
  os::Calls table = os::system_calls();
  table.openat = [](int dir, const char* path, int flags, mode_t mode) {
    if (std::string(path) == kShardName && fs::exists(run / "new")) {
      fs::rename(run / "step-1", run / "old");
      fs::rename(run / "new", run / "step-1");
      fs::remove(run / "old" / kShardName);
    }
    return ::openat(dir, path, flags, mode);
  };
  fs::copy(run_ / "step-1", run_ / "new");
  const os::ReplaceCalls replaced(table);
  EXPECT_EQ(run_.steps(), (std::vector<std::int64_t>{1, 2}));
}

TEST_F(StepFolders, UnreadableOnesAreDamagedNotHidden) {
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .nth = 3, .error = EACCES, .call = "openat"});
  const auto steps = look_at_steps(run_.path());
  EXPECT_TRUE(faults.was_reached());
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_NE(steps[0].is_complete(), steps[1].is_complete());
}

}  // namespace
}  // namespace understudy::store
