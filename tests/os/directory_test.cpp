#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"
#include "os/file.h"
#include "os/path.h"

namespace understudy::os {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::FaultMode;
using fakes::FaultyCalls;
using testing::ElementsAre;

class DirectoryTest : public testing::Test {
 protected:
  void make(const std::string& name, const std::string& text = "x") const {
    fs::create_directories((folder_ / name).parent_path());
    fakes::write_text(folder_ / name, text);
  }

  fakes::TemporaryFolder folder_;
  Directory directory_ = Directory::open(folder_.path());
};

TEST_F(DirectoryTest, ListsNamesSortedWithoutDots) {
  make("b");
  make(".hidden");
  make("a/inner");
  EXPECT_THAT(directory_.list(), ElementsAre(".hidden", "a", "b"));
  EXPECT_THAT(directory_.list(), ElementsAre(".hidden", "a", "b")) << "the second time too";
}

TEST_F(DirectoryTest, FailedReadingIsNotAnEmptyFolder) {
  make("a");
  for (const char* call : {"openat", "fdopendir", "readdir"}) {
    const FaultyCalls faults({.mode = FaultMode::fail, .nth = 1, .error = EIO, .call = call});
    expect_error(ErrorCode::io, folder_.path().string(), [&] { directory_.list(); });
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST_F(DirectoryTest, StaysTheSameWhenItIsRenamed) {
  const Directory inner = directory_.make_directory("a");
  directory_.rename("a", "b");
  inner.create("f");
  EXPECT_TRUE(fs::exists(folder_ / "b/f"));
}

TEST_F(DirectoryTest, ExchangesTwoNames) {
  make("a/one");
  make("b/two");
  if (!directory_.exchange("a", "b")) GTEST_SKIP() << "no RENAME_EXCHANGE here";
  EXPECT_TRUE(fs::exists(folder_ / "a/two"));
  EXPECT_TRUE(fs::exists(folder_ / "b/one"));
}

TEST_F(DirectoryTest, SaysWhenItCannotExchange) {
  for (const int error : {EINVAL, ENOSYS, EOPNOTSUPP, EXDEV}) {
    const FaultyCalls faults({.mode = FaultMode::fail, .error = error, .call = "renameat2"});
    EXPECT_FALSE(directory_.exchange("a", "b"));
  }
  expect_error(ErrorCode::not_found, "exchange", [&] { directory_.exchange("a", "b"); });
}

TEST_F(DirectoryTest, RemovesTreesWithoutFollowingLinks) {
  make("kept/file");
  make("tree/a/b/c");
  fs::create_directory_symlink(folder_ / "kept", folder_ / "tree/a/link");
  fs::create_symlink("nowhere", folder_ / "tree/dangling");
  directory_.remove_tree("tree");
  EXPECT_FALSE(fs::exists(folder_ / "tree"));
  EXPECT_TRUE(fs::exists(folder_ / "kept/file"));

  fs::create_directory_symlink(folder_ / "kept", folder_ / "link");
  directory_.remove_tree("link");
  EXPECT_FALSE(fs::exists(fs::symlink_status(folder_ / "link")));
  EXPECT_TRUE(fs::exists(folder_ / "kept/file"));
  expect_error(ErrorCode::not_found, "none", [&] { directory_.remove_tree("none"); });
}

TEST_F(DirectoryTest, RemovesTreesThatAreDeeperThanThereAreDescriptors) {
  constexpr int kLevels = 3000;
  constexpr rlim_t kDescriptors = 64;
  {
    Directory at = directory_.make_directory("tree");
    for (int level = 0; level < kLevels; ++level) {
      at.create("file");
      at = at.make_directory("d");
    }
  }
  EXPECT_EQ(fakes::in_child([&] {
              alarm(60);
              const rlimit limit{kDescriptors, kDescriptors};
              if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return 1;
              directory_.remove_tree("tree");
              return 0;
            }),
            0);
  EXPECT_THAT(directory_.list(), testing::IsEmpty());
}

TEST_F(DirectoryTest, TreeThatIsMovedWhileItIsRemovedIsAnError) {
  make("tree/a/b/file");
  make("elsewhere/precious");
  static fs::path root;
  root = folder_.path();
  Calls table = system_calls();
  table.unlinkat = [](int dir, const char* path, int flags) {
    if (path == std::string("file")) fs::rename(root / "tree/a/b", root / "elsewhere/b");
    return ::unlinkat(dir, path, flags);
  };
  const ReplaceCalls replaced(table);
  expect_error(ErrorCode::io, "was moved while it was being removed",
               [&] { directory_.remove_tree("tree"); });
  EXPECT_TRUE(fs::exists(folder_ / "elsewhere/precious"));
}

TEST_F(DirectoryTest, OpensLinksOnlyWhenAskedTo) {
  make("real/file");
  fs::create_directory_symlink("real", folder_ / "link");
  EXPECT_THROW(directory_.open_directory("link"), Error);
  EXPECT_THAT(directory_.open_directory("link", true).list(), ElementsAre("file"));
}

TEST_F(DirectoryTest, FindTellsWhatANameIs) {
  make("file", "12345");
  make("folder/x");
  fs::create_symlink("file", folder_ / "link");
  EXPECT_EQ(directory_.find("file")->type, FileInfo::Type::file);
  EXPECT_EQ(directory_.find("file")->nbytes, 5u);
  EXPECT_EQ(directory_.find("folder")->type, FileInfo::Type::directory);
  EXPECT_EQ(directory_.find("link")->type, FileInfo::Type::link);
  EXPECT_FALSE(directory_.find("none").has_value());
  EXPECT_TRUE(directory_.find("file")->is_same_file(directory_.open_file("link").info()));
  EXPECT_FALSE(directory_.find("file")->is_same_file(*directory_.find("folder")));
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EIO, .call = "fstatat"});
  expect_error(ErrorCode::io, "/file", [&] { directory_.exists("file"); });
}

TEST_F(DirectoryTest, MakesMissingParentsAndSyncsEach) {
  const FaultyCalls faults({.mode = FaultMode::none, .call = "fsync"});
  const Directory made = Directory::open_or_make(folder_ / "a/b/c");
  EXPECT_EQ(faults.count(), 3);
  made.create("f");
  EXPECT_TRUE(fs::exists(folder_ / "a/b/c/f"));
  Directory::open_or_make(folder_ / "a/b/d/");
  EXPECT_TRUE(fs::exists(folder_ / "a/b/d"));
  EXPECT_EQ(faults.count(), 4);
  Directory::open_or_make(folder_ / "a/b/d");
  EXPECT_EQ(faults.count(), 4) << "nothing new";
}

TEST_F(DirectoryTest, CannotBeMadeBelowAFile) {
  make("file");
  expect_error(ErrorCode::io, "file/x", [&] { Directory::open_or_make(folder_ / "file/x"); });
  expect_error(ErrorCode::not_found, "", [&] { Directory::open_or_make(""); });
}

TEST_F(DirectoryTest, SyncSaysWhenFoldersHaveNone) {
  EXPECT_TRUE(directory_.sync());
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EINVAL, .call = "fsync"});
  EXPECT_FALSE(directory_.sync());
}

TEST_F(DirectoryTest, FollowsLinksToTheEnd) {
  make("d/file");
  fs::create_symlink("d/file", folder_ / "one");
  fs::create_symlink("one", folder_ / "two");
  fs::create_symlink((folder_ / "absent").string(), folder_ / "dangling");
  EXPECT_EQ(follow_links(folder_ / "two"), folder_ / "d/file");
  EXPECT_EQ(follow_links(folder_ / "d/file"), folder_ / "d/file");
  EXPECT_EQ(follow_links(folder_ / "dangling"), folder_ / "absent");
  fs::create_symlink("ring2", folder_ / "ring1");
  fs::create_symlink("ring1", folder_ / "ring2");
  expect_error(ErrorCode::io, "ring", [&] { follow_links(folder_ / "ring1"); });
}

}  // namespace
}  // namespace understudy::os
