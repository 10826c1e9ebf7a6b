// A file system that is really full.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "os/calls.h"
#include "store/run_folder.h"
#include "understudy/error.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;

constexpr int kNotPermitted = 124;

/// Runs `body` in a child where the run's folder is a file system of `pages`
/// pages. The mount is the child's own and ends with it.
template <class Body>
int in_small_file_system(const RunFolder& run, int pages, Body body) {
  return fakes::in_child([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", run.path().c_str(), "tmpfs", 0,
              ("size=" + std::to_string(pages * 4) + "k").c_str()) != 0) {
      return kNotPermitted;
    }
    body();
    return testing::Test::HasFailure() ? 1 : 0;
  });
}

#define SKIP_IF_NOT_PERMITTED(status)                                      \
  if ((status) == kNotPermitted) {                                         \
    GTEST_SKIP() << "mounting a small file system needs more rights here"; \
  }

os::Calls without_reserve() {
  os::Calls table = os::system_calls();
  table.fallocate = [](int, int, off_t, off_t) {
    errno = EOPNOTSUPP;
    return -1;
  };
  return table;
}

/// Commits with every amount of free space from none to enough.
void commit_at_every_fullness(RunFolder& run) {
  run.commit(1, 1);
  bool is_enough = false;
  for (std::uintmax_t free_pages = 0; !is_enough; ++free_pages) {
    SCOPED_TRACE(std::to_string(free_pages) + " pages free");
    ASSERT_LT(free_pages, 20u) << "a small step needs no more than that";
    const auto available = fs::space(run.path()).available;
    ASSERT_GE(available, free_pages * 4096);
    fakes::write_text(run / "filler", std::string(available - free_pages * 4096, 'x'));
    try {
      run.commit(2, 2);
      is_enough = true;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::no_space) << error.what();
      EXPECT_NE(std::string(error.what()).find(run.path().string()), std::string::npos);
      EXPECT_EQ(run.names(), (std::vector<std::string>{"filler", "step-1"}));
    }
    run.expect_step(1, 1);
    fs::remove(run / "filler");
  }
  run.expect_step(2, 2);
}

TEST(FullDisk, IsAClearErrorAtEveryFullness) {
  RunFolder run;
  const int status = in_small_file_system(run, 64, [&] { commit_at_every_fullness(run); });
  SKIP_IF_NOT_PERMITTED(status);
  EXPECT_EQ(status, 0);
}

TEST(FullDisk, IsAClearErrorWhereNothingCanBeReserved) {
  RunFolder run;
  const int status = in_small_file_system(run, 64, [&] {
    const os::Calls table = without_reserve();
    const os::ReplaceCalls replaced(table);
    commit_at_every_fullness(run);
  });
  SKIP_IF_NOT_PERMITTED(status);
  EXPECT_EQ(status, 0);
}

TEST(FullDisk, LargeStepLeavesRoomForASmallOne) {
  RunFolder run;
  const int status = in_small_file_system(run, 1024, [&] {
    run.commit(1, 1);
    const auto lock = lock_folder(run.path());
    Writer writer;
    fakes::Shard large({{"w", fakes::pattern(20'000'000, 1)}});
    fakes::expect_error(ErrorCode::no_space, run.path().string(),
                        [&] { commit_step(*lock, 2, large, "null", writer, {}); });
    run.commit(2, 2);
    run.expect_step(1, 1);
    run.expect_step(2, 2);
    // One file, in the same place.
    fakes::expect_error(ErrorCode::no_space, run.path().string(),
                        [&] { commit_file(run / "f", large, writer); });
    EXPECT_EQ(run.names(), (std::vector<std::string>{"step-1", "step-2"}));
  });
  SKIP_IF_NOT_PERMITTED(status);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace understudy::store
