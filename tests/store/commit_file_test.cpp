#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/checks.h"
#include "store/commit.h"
#include "store/verify.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::FaultMode;
using fakes::FaultyCalls;
using testing::ElementsAre;

class CommitFile : public testing::Test {
 protected:
  Written commit(const fs::path& path, unsigned seed = 1) {
    Writer writer({.threads = 1});
    fakes::Shard shard = fakes::small_shard(seed);
    return commit_file(path, shard, writer);
  }

  void expect_file(const fs::path& path, unsigned seed) const {
    const FileCheck check = verify_file(path);
    EXPECT_TRUE(check.damage.empty()) << check.damage[0].what;
    EXPECT_TRUE(has_bytes_of(ShardReader(path), seed)) << "another seed's bytes";
  }

  std::vector<std::string> names() const { return os::Directory::open(folder_.path()).list(); }

  fakes::TemporaryFolder folder_{fakes::memory_folder()};
};

TEST_F(CommitFile, WritesAndReplaces) {
  const Written written = commit(folder_ / "f");
  expect_file(folder_ / "f", 1);
  EXPECT_EQ(written.nbytes, fs::file_size(folder_ / "f"));
  commit(folder_ / "f", 2);
  expect_file(folder_ / "f", 2);
  EXPECT_THAT(names(), ElementsAre("f"));
}

TEST_F(CommitFile, SyncsBeforeAndAfterTheRename) {
  const FaultyCalls counting({});
  commit(folder_ / "f");
  EXPECT_EQ(durable_order(counting), "1 s 6 s ");
}

TEST_F(CommitFile, TakesRelativePaths) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_.path());
  commit("f");
  fs::current_path(before);
  expect_file(folder_ / "f", 1);
}

TEST_F(CommitFile, ReplacesWhatALinkPointsTo) {
  fs::create_directory(folder_ / "d");
  fakes::write_text(folder_ / "d/target", "old");
  fs::create_symlink("d/target", folder_ / "link");
  fs::create_symlink("d/absent", folder_ / "dangling");
  commit(folder_ / "link");
  commit(folder_ / "dangling");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  expect_file(folder_ / "d/target", 1);
  expect_file(folder_ / "d/absent", 1);
}

TEST_F(CommitFile, KeepsTheModeOfWhatItReplaces) {
  commit(folder_ / "f");
  fs::permissions(folder_ / "f", fs::perms(0600));
  commit(folder_ / "f", 2);
  EXPECT_EQ(fs::status(folder_ / "f").permissions(), fs::perms(0600));
  const mode_t mask = umask(027);
  commit(folder_ / "g");
  umask(mask);
  EXPECT_EQ(fs::status(folder_ / "g").permissions(), fs::perms(0640));
}

TEST_F(CommitFile, IsAtNoMomentOpenToMorePeopleThanWhatItReplaces) {
  const mode_t mask = umask(0);
  for (const unsigned mode : {0600u, 0400u, 0000u, 0640u}) {
    fakes::write_text(folder_ / "f", "old");
    fs::permissions(folder_ / "f", fs::perms(mode));
    static unsigned widest;  // of the temporary, from its creation on
    widest = 0;
    static const auto look = [](int fd) {
      struct stat found;
      if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) widest |= found.st_mode & 0777;
    };
    os::Calls table = os::system_calls();
    table.openat = [](int at, const char* path, int flags, mode_t creation) {
      const int fd = ::openat(at, path, flags, creation);
      if (fd >= 0 && (flags & O_CREAT)) look(fd);
      return fd;
    };
    table.pwrite = [](int fd, const void* bytes, std::size_t nbytes, off_t offset) {
      look(fd);
      return ::pwrite(fd, bytes, nbytes, offset);
    };
    const os::ReplaceCalls replaced(table);
    commit(folder_ / "f", 2);
    EXPECT_EQ(widest & ~mode, 0u) << std::oct << widest << " where " << mode << " was";
    EXPECT_EQ(fs::status(folder_ / "f").permissions(), fs::perms(mode));
    fs::remove(folder_ / "f");
  }
  umask(mask);
}

TEST_F(CommitFile, ReplacesNothingWhenToldNotTo) {
  fakes::write_text(folder_ / "f", "old");
  fs::create_symlink("nowhere", folder_ / "link");
  Writer writer({.threads = 1});
  fakes::Shard shard = fakes::small_shard(1);
  for (const char* name : {"f", "link"}) {
    expect_error(ErrorCode::invalid, "exists and is not replaced",
                 [&] { commit_file(folder_ / name, shard, writer, Existing::refuse); });
  }
  EXPECT_EQ(fakes::read_text(folder_ / "f"), "old");
  EXPECT_THAT(names(), ElementsAre("f", "link"));
}

TEST_F(CommitFile, ReplacesNothingThatAppearsMeanwhileWhenToldNotTo) {
  os::Calls links = os::system_calls();
  links.renameat2 = [](int, const char*, int, const char*, unsigned) {
    errno = EINVAL;
    return -1;
  };
  os::Calls neither = links;
  neither.linkat = [](int, const char*, int, const char*, int) {
    errno = EPERM;
    return -1;
  };
  for (const os::Calls& table : {os::system_calls(), links, neither}) {
    const os::ReplaceCalls replaced(table);
    Writer writer({.threads = 1});
    fakes::EventfulShard shard(1, [&] { fakes::write_text(folder_ / "f", "somebody's"); });
    expect_error(ErrorCode::invalid, "exists and is not replaced",
                 [&] { commit_file(folder_ / "f", shard, writer, Existing::refuse); });
    EXPECT_EQ(fakes::read_text(folder_ / "f"), "somebody's");
    EXPECT_THAT(names(), ElementsAre("f"));
    fakes::Shard quiet = fakes::small_shard(2);
    commit_file(folder_ / "g", quiet, writer, Existing::refuse);
    expect_file(folder_ / "g", 2);
    fs::remove(folder_ / "f");
    fs::remove(folder_ / "g");
  }
}

TEST_F(CommitFile, RefusesWhatIsNoFile) {
  fs::create_directory(folder_ / "d");
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_error(ErrorCode::invalid, "d is a folder", [&] { commit(folder_ / "d"); });
  expect_error(ErrorCode::invalid, "is not the name of a file", [&] { commit(folder_ / "d/"); });
  expect_error(ErrorCode::invalid, "is not the name of a file", [&] { commit(folder_ / ".."); });
  expect_error(ErrorCode::invalid, "is not the name of a file", [&] { commit(""); });
  expect_error(ErrorCode::invalid, "not a plain file", [&] { commit(folder_ / "pipe"); });
  expect_error(ErrorCode::not_found, "no", [&] { commit(folder_ / "no/f"); });
  EXPECT_THAT(names(), ElementsAre("d", "pipe"));
}

TEST_F(CommitFile, TakesTheLongestNames) {
  const std::string name(255, 'n');
  commit(folder_ / name);
  expect_file(folder_ / name, 1);
  expect_error(ErrorCode::io, "too long", [&] { commit(folder_ / (name + "n")); });
  EXPECT_THAT(names(), ElementsAre(name));
}

TEST_F(CommitFile, CutsNoCharacterOfALongName) {
  // 255 bytes, of which 240 would end within a character.
  std::string name = "n";
  while (name.size() < 255) name += "\u00e4";
  Writer writer({.threads = 1});
  fakes::EventfulShard shard(1, [&] {
    ASSERT_EQ(names().size(), 1u);
    const std::string base = names()[0].substr(0, names()[0].find(".tmp-"));
    EXPECT_EQ(base, "." + name.substr(0, 239));
  });
  commit_file(folder_ / name, shard, writer);
  EXPECT_THAT(names(), ElementsAre(name));
  // Bytes that are no text at all have a name as well.
  const std::string bytes(255, '\x80');
  commit(folder_ / bytes);
  EXPECT_THAT(names(), ElementsAre(name, bytes));
}

TEST_F(CommitFile, FollowsNoLinkThatTheKernelRefusesToFollow) {
  // As in /tmp: a link of somebody else's to a file that only we may write.
  fs::create_directory(folder_ / "shared");
  fs::permissions(folder_ / "shared", fs::perms(01777));
  fakes::write_text(folder_ / "precious", "ours");
  fs::create_symlink(folder_ / "precious", folder_ / "shared/f");
  constexpr uid_t kNobody = 65534;
  std::ifstream setting("/proc/sys/fs/protected_symlinks");
  int is_protected = 0;
  if (!(setting >> is_protected) || is_protected == 0 ||
      lchown((folder_ / "shared/f").c_str(), kNobody, kNobody) != 0) {
    GTEST_SKIP() << "needs root, and a kernel that protects links";
  }
  expect_error(ErrorCode::io, "shared/f", [&] { commit(folder_ / "shared/f"); });
  EXPECT_EQ(fakes::read_text(folder_ / "precious"), "ours");
}

TEST_F(CommitFile, ClearsWhatDeadWritersOfThisFileLeft) {
  for (const char* name :
       {".f.tmp-0123abcd", ".f.tmp-9999999", ".g.tmp-0123abcd", "f.tmp-0123abcd"}) {
    fakes::write_text(folder_ / name, "torn");
  }
  commit(folder_ / "f");
  EXPECT_THAT(names(), ElementsAre(".f.tmp-9999999", ".g.tmp-0123abcd", "f", "f.tmp-0123abcd"));
}

TEST_F(CommitFile, LeavesALivingWritersFileAlone) {
  fakes::write_text(folder_ / ".f.tmp-0123abcd", "being written");
  const os::File living = os::File::open(folder_ / ".f.tmp-0123abcd");
  ASSERT_EQ(flock(living.fd(), LOCK_EX | LOCK_NB), 0);
  commit(folder_ / "f");
  EXPECT_THAT(names(), ElementsAre(".f.tmp-0123abcd", "f"));
}

TEST_F(CommitFile, WhereThereAreNoLocksNothingIsCleared) {
  fakes::write_text(folder_ / ".f.tmp-0123abcd", "torn, or not");
  const FaultyCalls faults({.mode = FaultMode::fail, .error = ENOLCK, .call = "flock"});
  commit(folder_ / "f");
  EXPECT_TRUE(faults.was_reached());
  EXPECT_THAT(names(), ElementsAre(".f.tmp-0123abcd", "f"));
}

TEST_F(CommitFile, SavesOfOneFileAtOnceAllSucceed) {
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      for (int i = 0; i < 20; ++i) commit(folder_ / "f", seed);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(verify_file(folder_ / "f").damage.empty());
  EXPECT_THAT(names(), ElementsAre("f"));
}

TEST_F(CommitFile, RemovedByAnotherSaveItBeginsAgain) {
  // The first temporary is taken away between its creation and its lock.
  static std::atomic<int> turns;
  turns = 0;
  os::Calls table = os::system_calls();
  table.flock = [](int fd, int operation) {
    if (++turns == 1) {
      errno = EWOULDBLOCK;
      return -1;
    }
    return ::flock(fd, operation);
  };
  const os::ReplaceCalls replaced(table);
  commit(folder_ / "f");
  EXPECT_EQ(turns, 2);
  expect_file(folder_ / "f", 1);
  EXPECT_THAT(names(), ElementsAre("f"));
}

TEST_F(CommitFile, NeverWinsAgainstOneThatAlwaysRemoves) {
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EWOULDBLOCK, .call = "flock"});
  expect_error(ErrorCode::busy, (folder_ / "f").string(), [&] { commit(folder_ / "f"); });
}

TEST_F(CommitFile, EveryFailingCallLeavesTheOldOrTheNewFile) {
  std::vector<std::string> calls;
  commit(folder_ / "f", 1);
  fs::permissions(folder_ / "f", fs::perms(0600));
  {
    const FaultyCalls counting({});
    commit(folder_ / "f", 1);
    calls = counting.log();
  }
  for (const int error : {ENOSPC, EIO, EINTR}) {
    for (std::size_t nth = 1; nth <= calls.size(); ++nth) {
      SCOPED_TRACE("call " + std::to_string(nth) + ", " + calls[nth - 1] + ", " + strerror(error));
      commit(folder_ / "f", 1);
      bool failed = false;
      {
        const FaultyCalls faults(
            {.mode = FaultMode::fail, .nth = static_cast<int>(nth), .error = error});
        try {
          commit(folder_ / "f", 2);
        } catch (const Error& caught) {
          failed = true;
          const bool is_full = error == ENOSPC || calls[nth - 1] == "mmap";  // memory or disk
          EXPECT_EQ(caught.code(), is_full ? ErrorCode::no_space : ErrorCode::io);
          EXPECT_THAT(caught.what(), testing::HasSubstr(folder_.path().string()));
          EXPECT_NE(error, EINTR) << caught.what();
        }
        EXPECT_TRUE(faults.was_reached());
      }
      // After the rename only the folder's fsync can fail: the new file is
      // there, and not told to be durable.
      const bool is_parent_sync =
          calls[nth - 1] == "fsync" && nth > calls.size() / 2 &&
          std::find(calls.begin() + static_cast<long>(nth), calls.end(), "fsync") == calls.end();
      expect_file(folder_ / "f", failed && !is_parent_sync ? 1 : 2);
      commit(folder_ / "f", 3);
      EXPECT_THAT(names(), ElementsAre("f"));
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace understudy::store
