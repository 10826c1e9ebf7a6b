// The folder of a run: made durably, or refused by an Error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"
#include "understudy/checkpointer.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;

class NewFolderTest : public testing::Test {
 protected:
  fakes::TemporaryFolder folder_;
};

TEST_F(NewFolderTest, IsSyncedIntoItsParentsWhenItIsNew) {
  // Each folder that a name was made in, and whether it was synced since.
  static std::map<ino_t, bool> is_synced;
  is_synced.clear();
  static const auto number = [](int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
  };
  os::Calls table = os::system_calls();
  table.mkdirat = [](int dir, const char* path, mode_t mode) {
    is_synced[number(dir)] = false;
    return ::mkdirat(dir, path, mode);
  };
  table.fsync = [](int fd) {
    if (const auto found = is_synced.find(number(fd)); found != is_synced.end()) {
      found->second = true;
    }
    return ::fsync(fd);
  };
  const os::ReplaceCalls replaced(table);
  Checkpointer({.directory = folder_ / "a/b/run"});
  EXPECT_EQ(is_synced.size(), 3u);
  for (const auto& [folder, synced] : is_synced) EXPECT_TRUE(synced) << folder;
  EXPECT_TRUE(fs::is_directory(folder_ / "a/b/run"));
}

TEST_F(NewFolderTest, ThatCannotBeMadeIsAnErrorOfOurs) {
  fakes::write_text(folder_ / "file", "");
  fs::create_symlink("ring", folder_ / "ring");
  for (const char* name : {"file", "file/run", "ring", "ring/run"}) {
    expect_error(ErrorCode::io, (folder_ / name).string(),
                 [&] { Checkpointer({.directory = folder_ / name}); });
  }
}

TEST_F(NewFolderTest, WithoutPermissionIsAnErrorOfOurs) {
  fs::create_directories(folder_ / "closed/run");
  fs::permissions(folder_ / "closed", fs::perms(0));
  fs::permissions(folder_.path(), fs::perms(0755));
  EXPECT_EQ(fakes::in_child([&] {
              constexpr uid_t kNobody = 65534;  // permissions do not stop root
              if (geteuid() == 0 && setuid(kNobody) != 0) return 1;
              for (const char* name : {"closed/run", "closed/new"}) {
                expect_error(ErrorCode::io, "Permission denied",
                             [&] { Checkpointer({.directory = folder_ / name}); });
              }
              return testing::Test::HasFailure() ? 2 : 0;
            }),
            0);
  fs::permissions(folder_ / "closed", fs::perms(0755));
}

}  // namespace
}  // namespace understudy
