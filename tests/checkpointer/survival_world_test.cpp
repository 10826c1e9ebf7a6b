// What lies in memory and is damaged, not of this run, not of this user or not of this start of the
// machine is not resumed from: the disk serves, and the report says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>

#include "fakes/expect_error.h"
#include "fakes/survivors.h"
#include "store/manifest.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::leave_in_memory;
using fakes::training_state;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SurvivalWorldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fakes::SurvivingRun::is_possible()) GTEST_SKIP() << "/dev/shm is no tmpfs";
    Checkpointer ckpt(run_.options());
    ckpt.save(3, training_state(3)).wait();
    ckpt.close();
    ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
    ASSERT_THAT(run_.sealed(), SizeIs(1));
    step_ = run_.sealed().front();
  }

  /// Resumes; the step, with its reasons for skipping others.
  static std::int64_t resume(Checkpointer& ckpt) {
    auto state = training_state(99);
    const auto step = ckpt.resume(state);
    if (!step) return -1;
    EXPECT_EQ(fingerprint(state), fingerprint(training_state(static_cast<int>(*step))));
    return *step;
  }

  void expect_disk(const std::string& reason) const {
    Checkpointer ckpt(run_.options());
    EXPECT_EQ(resume(ckpt), 3);
    EXPECT_EQ(ckpt.resumed()->source, "disk");
    ASSERT_THAT(ckpt.resumed()->skipped, SizeIs(1));
    EXPECT_EQ(ckpt.resumed()->skipped[0].step, 7);
    EXPECT_THAT(ckpt.resumed()->skipped[0].reason, HasSubstr("in memory: "));
    EXPECT_THAT(ckpt.resumed()->skipped[0].reason, HasSubstr(reason));
    ckpt.close();
    EXPECT_THAT(run_.left(), IsEmpty()) << "what is worth nothing is cleared";
  }

  /// Writes the manifest anew, with one text in it replaced and the right digest.
  void change_manifest(const std::string& name, const std::string& value) const {
    const auto path = step_ / "checkpoint.json";
    auto manifest = store::read_manifest(fakes::read_text(path), path.native());
    auto& json = manifest.survivor_json;
    const auto at = json.find("\"" + name + "\":");
    ASSERT_NE(at, std::string::npos) << json;
    const auto end = json.find_first_of(",}", at);
    json.replace(at, end - at, "\"" + name + "\":" + value);
    fakes::write_text(path, store::write_manifest(manifest));
  }

  fs::path shard() const { return step_ / "shard-00000-of-00001.safetensors"; }

  fakes::SurvivingRun run_;
  fs::path step_;
};

TEST_F(SurvivalWorldTest, AnyFlippedBitIsFound) {
  Checkpointer ckpt(run_.options());
  ASSERT_EQ(ckpt.restore({.source = Source::memory}).step, 7);
  for (const auto& path : {shard(), step_ / "checkpoint.json"}) {
    auto bytes = fakes::read_text(path);
    // Of the tensors' bytes, of which all are alike, some.
    const std::size_t stride = bytes.size() > 20'000 ? 37 : 1;
    for (std::size_t i = 0; i < bytes.size(); i += i < 12'288 ? 1 : stride) {
      const char bit = static_cast<char>(1 << (i % 8));
      bytes[i] = static_cast<char>(bytes[i] ^ bit);
      fakes::write_text(path, bytes);
      bytes[i] = static_cast<char>(bytes[i] ^ bit);
      EXPECT_THROW(ckpt.restore({.source = Source::memory}), Error)
          << path << ": byte " << i << " was not verified";
      if (HasFailure()) return;
    }
    fakes::write_text(path, bytes);
  }
  EXPECT_EQ(ckpt.restore({.source = Source::memory}).step, 7);
}

TEST_F(SurvivalWorldTest, ADamagedOneIsReportedAndTheDiskServes) {
  auto bytes = fakes::read_text(shard());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  fakes::write_text(shard(), bytes);
  expect_disk("is damaged");
}

TEST_F(SurvivalWorldTest, ACutOneIsReportedAndTheDiskServes) {
  fs::resize_file(shard(), fs::file_size(shard()) - 1);
  expect_disk("bytes");
}

TEST_F(SurvivalWorldTest, AnUnfinishedOneIsNone) {
  // As the image is while it is filled: its header has no length.
  auto bytes = fakes::read_text(shard());
  std::fill_n(bytes.begin(), 8, '\0');
  fakes::write_text(shard(), bytes);
  expect_disk("safetensors");
}

TEST_F(SurvivalWorldTest, OfAnotherStartOfTheMachine) {
  change_manifest("boot", "\"00000000-0000-0000-0000-000000000000\"");
  expect_disk("another start of the machine");
}

TEST_F(SurvivalWorldTest, OfAnotherUser) {
  change_manifest("user", "12345");
  expect_disk("another user");
}

TEST_F(SurvivalWorldTest, OfAnotherRun) {
  change_manifest("run", "\"1:2:3\"");
  expect_disk("another run");
}

TEST_F(SurvivalWorldTest, OfAnotherNumberOfRanks) {
  change_manifest("ranks", "4");
  expect_disk("4 ranks");
}

TEST_F(SurvivalWorldTest, OfARunThatWasContinuedElsewhere) {
  {
    // As on another machine: without this memory.
    Checkpointer other({.directory = run_.run});
    other.save(5, training_state(5)).wait();
  }
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 5);
  EXPECT_EQ(ckpt.resumed()->source, "disk");
  ASSERT_THAT(ckpt.resumed()->skipped, SizeIs(1));
  EXPECT_THAT(ckpt.resumed()->skipped[0].reason, HasSubstr("continued"));
}

TEST_F(SurvivalWorldTest, TheSameFolderByAnotherPathOrMovedIsTheSameRun) {
  fs::create_directory_symlink(run_.run, run_.disk / "link");
  auto options = run_.options();
  options.directory = run_.disk / "link";
  {
    Checkpointer ckpt(options);
    EXPECT_EQ(ckpt.restore({.source = Source::memory}).step, 7);
  }
  ASSERT_TRUE(leave_in_memory(run_.options(), 8, training_state(8)));
  fs::rename(run_.run, run_.disk / "moved");
  {
    Checkpointer in_its_place(run_.options());
    EXPECT_EQ(resume(in_its_place), -1) << "another folder that has its path";
  }
  options.directory = run_.disk / "moved";
  Checkpointer ckpt(options);
  EXPECT_EQ(resume(ckpt), 8);
  EXPECT_EQ(ckpt.resumed()->source, "memory");
}

TEST_F(SurvivalWorldTest, WhatALiveProcessHasIsNotTaken) {
  int told[2], wanted[2];
  ASSERT_EQ(pipe(told), 0);
  ASSERT_EQ(pipe(wanted), 0);
  const pid_t child = fork();
  if (child == 0) {
    auto* const ckpt = new Checkpointer(run_.options());
    auto state = training_state(99);
    char byte = ckpt->resume(state) == 7 ? 'y' : 'n';
    fakes::wait_sealed(ckpt->save(9, training_state(9)));
    (void)!write(told[1], &byte, 1);
    (void)!read(wanted[0], &byte, 1);
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(told[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  const auto before = run_.left();
  {
    Checkpointer ckpt(run_.options());
    expect_error(ErrorCode::busy, "is being written by process",
                 [&] { ckpt.save(10, training_state(10)); });
    expect_error(ErrorCode::busy, "is being written by process",
                 [&] { ckpt.restore({.source = Source::memory}); });
    EXPECT_EQ(ckpt.restore({.step = 3}).source, "disk");
    expect_error(ErrorCode::busy, "", [&] { recover(run_.run, {.memory = run_.memory.path()}); });
  }
  EXPECT_EQ(run_.left(), before);
  ASSERT_EQ(write(wanted[1], &byte, 1), 1);
  int status = 0;
  waitpid(child, &status, 0);
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 9);
  for (const int fd : {told[0], told[1], wanted[0], wanted[1]}) close(fd);
}

TEST_F(SurvivalWorldTest, AFolderOfSomebodyElseIsNotUsed) {
  const auto own = run_.memory / ("understudy-" + std::to_string(geteuid()));
  const auto refused = [&](const std::string& why) {
    Checkpointer ckpt(run_.options());
    expect_error(ErrorCode::invalid, why, [&] { ckpt.save(9, training_state(9)); });
    auto options = run_.options();
    options.when_no_room = WhenNoRoom::go_on;
    Checkpointer goes_on(options);
    const auto ticket = goes_on.save(9, training_state(9), {.overwrite = true});
    ticket.wait();
    EXPECT_THAT(ticket.metrics().memory, HasSubstr("does not survive"));
    EXPECT_THAT(ticket.metrics().memory, HasSubstr(why));
    EXPECT_THAT(ticket.metrics().survival, HasSubstr("does not survive"));
  };
  fs::permissions(own, fs::perms::group_read, fs::perm_options::add);
  refused("not this user's alone");
  fs::permissions(own, fs::perms::group_read, fs::perm_options::remove);
  fs::rename(own, run_.memory / "moved");
  fs::create_directory_symlink(run_.memory / "moved", own);
  refused("is no folder");
  fs::remove(own);
  fs::rename(run_.memory / "moved", own);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(own.c_str(), 12345, 12345), 0);
    refused("not this user's alone");
    ASSERT_EQ(chown(own.c_str(), 0, 0), 0);
  }
}

TEST_F(SurvivalWorldTest, AFolderThatIsNotInMemoryIsRefused) {
  const fakes::TemporaryFolder plain("/var/tmp");
  struct statfs found {};
  if (statfs(plain.path().c_str(), &found) == 0 && found.f_type == 0x01021994) {
    GTEST_SKIP() << "/var/tmp is in memory, too";
  }
  Checkpointer ckpt({.directory = run_.run, .survive = plain.path()});
  expect_error(ErrorCode::invalid, "is no folder in memory",
               [&] { ckpt.save(9, training_state(9)); });
}

/// A tmpfs of its own size.
class SmallMemory {
 public:
  SmallMemory(const fs::path& at, int pages) : at_(at) {
    const auto size = "size=" + std::to_string(pages * 4096);
    is_mounted_ = mount("tmpfs", at.c_str(), "tmpfs", 0, size.c_str()) == 0;
  }
  ~SmallMemory() {
    if (is_mounted_) umount2(at_.c_str(), MNT_DETACH);
  }
  SmallMemory(const SmallMemory&) = delete;
  SmallMemory& operator=(const SmallMemory&) = delete;
  bool is_mounted() const { return is_mounted_; }

 private:
  const fs::path at_;
  bool is_mounted_ = false;
};

// A tmpfs of every size around what two images and their folders need.
TEST_F(SurvivalWorldTest, ASmallTmpfsIsAnErrorBeforeAnythingIsLost) {
  const auto mount_point = run_.disk / "small";
  fs::create_directory(mount_point);
  if (!SmallMemory(mount_point, 1).is_mounted()) {
    GTEST_SKIP() << "no tmpfs can be mounted here: " << std::strerror(errno);
  }
  constexpr int kPages = 70;  // two images take less
  int sealed = 0, refused = 0;
  for (int pages = 1; pages <= kPages; ++pages) {
    const SmallMemory small(mount_point, pages);
    ASSERT_TRUE(small.is_mounted());
    const auto run = run_.disk / ("run-" + std::to_string(pages));
    {
      Checkpointer ckpt({.directory = run, .survive = mount_point});
      for (int step : {1, 2, 3}) {
        try {
          const auto ticket = ckpt.save(step, training_state(step));
          ticket.wait();
          sealed += fakes::wait_sealed(ticket) == "sealed";
        } catch (const Error& e) {
          EXPECT_EQ(e.code(), ErrorCode::no_space) << e.what();
          ++refused;
        }
      }
      ckpt.close();
    }
    {
      Checkpointer ckpt({.directory = run});
      const auto newest = ckpt.latest();
      if (newest) {
        EXPECT_EQ(resume(ckpt), *newest);
      }
    }
    Checkpointer goes_on(
        {.directory = run, .survive = mount_point, .when_no_room = WhenNoRoom::go_on});
    goes_on.save(4, training_state(4)).wait();
    goes_on.close();
  }
  EXPECT_GT(sealed, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace understudy
