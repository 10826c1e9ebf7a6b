#include "memory/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "fakes/cuda/use_fake_cuda.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "vm/mapping.h"

namespace understudy::memory {
namespace {

using fakes::expect_error;
using fakes::FaultMode;
using ::testing::HasSubstr;

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

TEST(ImageTest, TellsWhoMakesItsPagesOfEveryPartOnce) {
  ImagePool pool(1);
  double waited = 0;
  const auto image = pool.lease(21 * kMiB, WhenBusy::wait, waited);
  WorkerPool workers("us-test", 3);
  std::vector<std::atomic<int>> told(image->capacity() / kMiB);
  const auto tell = [&](std::uint64_t begin, std::uint64_t nbytes) {
    for (auto at = begin; at < begin + nbytes; at += kMiB) {
      image->data()[at] = std::byte{1};
      ++told[at / kMiB];
    }
  };
  image->prepare(workers, tell);
  for (const auto& times : told) EXPECT_EQ(times, 1);
  image->prepare(workers, tell);
  for (const auto& times : told) EXPECT_EQ(times, 1) << "nothing was left to do";
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
  // Until the lease ended after the call began to wait for it, and not before.
  for (auto delay = std::chrono::milliseconds(1); waited == 0; delay *= 2) {
    auto held = pool.lease(kMiB, WhenBusy::wait, waited);
    expect_error(ErrorCode::busy, "", [&] { pool.lease(kMiB, WhenBusy::error, waited); });
    expect_error(ErrorCode::busy, "", [&] { pool.lease(kMiB, WhenBusy::skip, waited); });
    std::thread other([&] {
      std::this_thread::sleep_for(delay);
      held.reset();
    });
    EXPECT_NE(pool.lease(kMiB, WhenBusy::wait, waited), nullptr);
    other.join();
  }
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
  const fakes::FaultyCalls faults(
      {.mode = FaultMode::fail, .error = EMFILE, .call = "memfd_create"});
  expect_error(ErrorCode::io, "", [&] { pool.lease(kMiB, WhenBusy::error, waited); });
  expect_error(ErrorCode::io, "", [&] { pool.lease(kMiB, WhenBusy::error, waited); });
  EXPECT_EQ(faults.count(), 2);  // neither was "all images are leased"
}

TEST(ImagePoolTest, PagesThatCannotBeMadeAreAnErrorBeforeAnythingIsWritten) {
  ImagePool pool(1);
  WorkerPool workers("test", 2);
  double waited = 0;
  auto image = pool.lease(10 * kMiB, WhenBusy::wait, waited);
  {
    const fakes::FaultyCalls faults({.mode = FaultMode::fail, .error = EFAULT, .call = "madvise"});
    expect_error(ErrorCode::no_space, "no space is left", [&] { image->prepare(workers); });
    EXPECT_TRUE(faults.was_reached());
    EXPECT_FALSE(image->is_prepared());
  }
  image->prepare(workers);
  EXPECT_TRUE(image->is_prepared());
}

TEST(ImagePoolTest, PrewarmsAllImagesAndNoneTwice) {
  ImagePool pool(2);
  std::uint64_t made = 0;
  const auto count = [&](std::uint64_t nbytes) { made += nbytes; };
  pool.prewarm(9 * kMiB, count);
  EXPECT_EQ(made, 2 * 10 * kMiB);
  pool.prewarm(9 * kMiB, count);
  EXPECT_EQ(made, 2 * 10 * kMiB);
  double waited = 0;
  const auto first = pool.lease(9 * kMiB, WhenBusy::error, waited);
  const auto second = pool.lease(9 * kMiB, WhenBusy::error, waited);
  EXPECT_TRUE(first->is_prepared());
  EXPECT_TRUE(second->is_prepared());
  // Resident, by the kernel's own account.
  std::vector<unsigned char> pages(10 * kMiB / 4096);
  ASSERT_EQ(mincore(second->data(), 10 * kMiB, pages.data()), 0);
  EXPECT_EQ(std::count_if(pages.begin(), pages.end(), [](auto p) { return (p & 1) != 0; }),
            static_cast<std::ptrdiff_t>(pages.size()));
}

TEST(ImagePoolTest, PrewarmingLeavesALeasedImageToItsHolder) {
  ImagePool pool(2);
  Lease leased;
  double waited = 0;
  pool.prewarm(16 * kMiB, [&](std::uint64_t) {
    if (!leased) leased = pool.lease(16 * kMiB, WhenBusy::error, waited);
  });
  ASSERT_NE(leased, nullptr);
  EXPECT_FALSE(leased->is_prepared());
  std::memset(leased->data(), 7, kMiB);
  WorkerPool workers("test", 2);
  leased->prepare(workers);
  EXPECT_EQ(std::to_integer<int>(leased->data()[kMiB - 1]), 7);
  EXPECT_TRUE(pool.lease(16 * kMiB, WhenBusy::error, waited)->is_prepared());
}

TEST(ImagePoolTest, PrewarmingEndsWithThePool) {
  ImagePool pool(1);
  expect_error(ErrorCode::closed, "",
               [&] { pool.prewarm(16 * kMiB, [&](std::uint64_t) { pool.close(); }); });
}

TEST(ImagePoolTest, PinsBeforeUseAndUnpinsBeforeFreeing) {
  const fakes::UseFakeCuda fake;
  WorkerPool workers("test", 2);
  double waited = 0;
  {
    ImagePool pool(1, Memory::pinned);
    EXPECT_EQ(fake->registered, 0);
    auto image = pool.lease(3 * kMiB, WhenBusy::wait, waited);
    image->prepare(workers);
    image->prepare(workers);
    EXPECT_EQ(fake->registrations, 1);
    EXPECT_EQ(fake->nbytes, static_cast<long long>(4 * kMiB));
    EXPECT_THAT(image->describe(), HasSubstr("pinned (CUDA device 0, Fake GPU A), "));
    image.reset();
    EXPECT_EQ(fake->registered, 1);                         // it stays pinned in the pool
    image = pool.lease(20 * kMiB, WhenBusy::wait, waited);  // replaces it
    EXPECT_EQ(fake->registered, 0);
    image->prepare(workers);
    pool.close();
    EXPECT_EQ(fake->registered, 1);  // leased
  }
  EXPECT_EQ(fake->registered, 0);
  EXPECT_EQ(fake->unregistrations, 2);
  EXPECT_EQ(fake->late_unregistrations, 0);
  EXPECT_EQ(fake->retained, 0);
}

TEST(ImagePoolTest, PinningThatFailsIsTriedAgain) {
  const fakes::UseFakeCuda fake;
  WorkerPool workers("test", 2);
  double waited = 0;
  ImagePool pool(1, Memory::pinned);
  fake->register_result = 2;
  for (int i = 0; i < 2; ++i) {
    expect_error(ErrorCode::no_space, "CUDA_ERROR_OUT_OF_MEMORY",
                 [&] { pool.lease(kMiB, WhenBusy::error, waited)->prepare(workers); });
  }
  EXPECT_EQ(fake->failures, 2);
  fake->register_result = 0;
  pool.prewarm(kMiB, [](std::uint64_t) {});
  EXPECT_EQ(fake->registered, 1);
}

TEST(ImagePoolTest, AutomaticMemoryFollowsTheProcess) {
  const fakes::UseFakeCuda fake;
  double waited = 0;
  EXPECT_THAT(ImagePool(1, Memory::automatic).lease(kMiB, WhenBusy::wait, waited)->describe(),
              HasSubstr("pageable (not pinned: this process does not use CUDA)"));
  EXPECT_FALSE(fake->is_started);
  const auto context = device::CudaContext::open();  // now it does
  EXPECT_THAT(ImagePool(1, Memory::automatic).lease(kMiB, WhenBusy::wait, waited)->describe(),
              HasSubstr("pinned (CUDA device 0, Fake GPU A)"));
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

TEST(ImageCopyOnWrite, WritesStayPrivate) {
  Image image(kMiB, nullptr, "pageable");
  std::memset(image.data(), 3, kMiB);
  const auto mapping = vm::Mapping::copy_on_write(image.fd(), kMiB, "test");
  EXPECT_EQ(std::to_integer<int>(mapping.data()[100]), 3);
  mapping.data()[100] = std::byte{9};
  EXPECT_EQ(std::to_integer<int>(image.data()[100]), 3);
}

}  // namespace
}  // namespace understudy::memory
