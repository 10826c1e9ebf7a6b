#include "memory/image.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "fakes/expect_error.h"
#include "os/calls.h"

namespace understudy::memory {
namespace {

using fakes::expect_error;

constexpr std::uint64_t kMiB = 1 << 20;

TEST(ImagePoolTest, ReusesTheSameMemory) {
  ImagePool pool(1);
  double waited = 0;
  auto first = pool.lease(kMiB, WhenBusy::wait, waited);
  auto* at = first->data();
  std::memset(at, 7, kMiB);
  first.reset();
  EXPECT_EQ(pool.lease(kMiB + 5, WhenBusy::wait, waited)->data(), at);
  EXPECT_EQ(waited, 0);
}

TEST(ImagePoolTest, ReplacesWhatIsTooSmallOrFarTooLarge) {
  ImagePool pool(1);
  double waited = 0;
  EXPECT_GE(pool.lease(20 * kMiB, WhenBusy::wait, waited)->capacity(), 20 * kMiB);
  EXPECT_EQ(pool.lease(kMiB, WhenBusy::wait, waited)->capacity(), 2 * kMiB);
  EXPECT_EQ(pool.lease(3 * kMiB, WhenBusy::wait, waited)->capacity(), 4 * kMiB);
}

TEST(ImagePoolTest, SaysBusyOrWaits) {
  ImagePool pool(1);
  double waited = 0;
  auto held = pool.lease(kMiB, WhenBusy::wait, waited);
  expect_error(ErrorCode::busy, "", [&] { pool.lease(kMiB, WhenBusy::error, waited); });
  expect_error(ErrorCode::busy, "", [&] { pool.lease(kMiB, WhenBusy::skip, waited); });
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    held.reset();
  });
  EXPECT_NE(pool.lease(kMiB, WhenBusy::wait, waited), nullptr);
  EXPECT_GT(waited, 0);
  other.join();
}

TEST(ImagePoolTest, ClosingWakesThoseWhoWaitAndLeavesLeases) {
  auto pool = std::make_unique<ImagePool>(1);
  double waited = 0;
  auto held = pool->lease(kMiB, WhenBusy::wait, waited);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    pool->close();
  });
  expect_error(ErrorCode::closed, "", [&] { pool->lease(kMiB, WhenBusy::wait, waited); });
  other.join();
  pool.reset();
  std::memset(held->data(), 1, kMiB);  // still there
}

TEST(ImagePoolTest, LackOfMemoryIsAnErrorAndTheLeaseIsNotLost) {
  ImagePool pool(1);
  double waited = 0;
  expect_error(ErrorCode::no_space, "",
               [&] { pool.lease(std::uint64_t{1} << 50, WhenBusy::error, waited); });
  static bool reached;
  reached = false;
  os::Calls table = os::system_calls();
  table.fallocate = [](int, int, off_t, off_t) {
    reached = true;
    errno = ENOSPC;
    return -1;
  };
  {
    os::ReplaceCalls fault(table);
    expect_error(ErrorCode::no_space, "", [&] { pool.lease(kMiB, WhenBusy::error, waited); });
  }
  EXPECT_TRUE(reached);
  EXPECT_NO_THROW(pool.lease(kMiB, WhenBusy::error, waited));
}

TEST(ImagePoolTest, ForkedChildrenDoNotHaveTheImage) {
  ImagePool pool(1);
  double waited = 0;
  auto held = pool.lease(kMiB, WhenBusy::wait, waited);
  const auto child = fork();
  if (child == 0) {
    const bool is_there = msync(held->data(), 4096, MS_ASYNC) == 0;
    held.reset();  // inert
    _exit(is_there ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(PrivateMappingTest, WritesStayPrivate) {
  Image image(kMiB);
  std::memset(image.data(), 3, kMiB);
  os::PrivateMapping mapping(image.fd(), kMiB, "test");
  EXPECT_EQ(std::to_integer<int>(mapping.data()[100]), 3);
  mapping.data()[100] = std::byte{9};
  EXPECT_EQ(std::to_integer<int>(image.data()[100]), 3);
}

}  // namespace
}  // namespace understudy::memory
