#include "vm/mapping.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "vm/pages.h"
#include "vm/shared_mapping.h"

namespace understudy::vm {
namespace {

using fakes::expect_error;
using fakes::FaultMode;

constexpr std::uint64_t kMiB = 1 << 20;
// Huge pages with something before and behind them.
constexpr std::uint64_t kNbytes = 2 * kHugePageNbytes + 5 * 4096;

std::uint64_t resident(const std::byte* data, std::uint64_t nbytes) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((nbytes + page - 1) / page);
  EXPECT_EQ(mincore(const_cast<std::byte*>(data), nbytes, pages.data()), 0);
  return static_cast<std::uint64_t>(
             std::count_if(pages.begin(), pages.end(), [](auto p) { return (p & 1) != 0; })) *
         page;
}

struct Shared {
  static auto make(std::uint64_t nbytes) { return SharedMapping(nbytes); }
};
struct Anonymous {
  static auto make(std::uint64_t nbytes) { return Mapping::anonymous(nbytes); }
};
template <class Kind>
class FreshMemory : public testing::Test {};
using Both = testing::Types<Shared, Anonymous>;
TYPED_TEST_SUITE(FreshMemory, Both);

TYPED_TEST(FreshMemory, HasNoPagesUntilItIsTouched) {
  auto memory = TypeParam::make(kNbytes);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % kHugePageNbytes, 0u);
  EXPECT_EQ(resident(memory.data(), kNbytes), 0u);
  memory.touch(0, kNbytes);
  EXPECT_EQ(resident(memory.data(), kNbytes), kNbytes);
  EXPECT_TRUE(std::all_of(memory.data(), memory.data() + kNbytes,
                          [](auto b) { return b == std::byte{0}; }));
}

TYPED_TEST(FreshMemory, OfAnySizeTakesWritesAfterwards) {
  for (const std::uint64_t nbytes : {std::uint64_t{1}, std::uint64_t{4096}, kMiB + 1,
                                     kHugePageNbytes, kHugePageNbytes + 1, kNbytes}) {
    auto memory = TypeParam::make(nbytes);
    memory.touch(nbytes / 2, nbytes - nbytes / 2);
    memory.touch(0, nbytes);
    std::memset(memory.data(), 1, nbytes);
  }
}

TYPED_TEST(FreshMemory, TouchingChangesNoBytes) {
  auto memory = TypeParam::make(kNbytes);
  for (std::uint64_t i = 0; i < kNbytes; i += 4096) memory.data()[i] = std::byte{9};
  // Others write while several threads touch the same.
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) threads.emplace_back([&] { memory.touch(0, kNbytes); });
  for (std::uint64_t i = 1; i < kNbytes; i += 4096) memory.data()[i] = std::byte{8};
  for (auto& thread : threads) thread.join();
  for (std::uint64_t i = 0; i < kNbytes; i += 4096) {
    ASSERT_EQ(memory.data()[i], std::byte{9});
    ASSERT_EQ(memory.data()[i + 1], std::byte{8});
  }
}

TYPED_TEST(FreshMemory, MoreThanThereIsIsAnErrorThatSaysHowMuch) {
  expect_error(ErrorCode::no_space, "are missing", [] { TypeParam::make(std::uint64_t{1} << 50); });
}

TYPED_TEST(FreshMemory, PagesThatCannotBeMadeAreAnError) {
  auto memory = TypeParam::make(kNbytes);
  const fakes::FaultyCalls faults({.mode = FaultMode::fail, .error = EFAULT, .call = "madvise"});
  expect_error(ErrorCode::no_space, "no space is left", [&] { memory.touch(0, kNbytes); });
  EXPECT_TRUE(faults.was_reached());
}

TYPED_TEST(FreshMemory, AddressesThatAreRefusedAreAnError) {
  for (const int nth : {1, 2}) {
    const fakes::FaultyCalls faults(
        {.mode = FaultMode::fail, .nth = nth, .error = ENOMEM, .call = "mmap"});
    expect_error(ErrorCode::no_space, "cannot map", [] { auto memory = TypeParam::make(kNbytes); });
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST(SharedMapping, IsNotOpenAfterAFailure) {
  for (const char* call : {"ftruncate", "mmap"}) {
    const fakes::FaultyCalls faults({.mode = FaultMode::fail, .error = ENOSPC, .call = call});
    const int before = dup(0);
    close(before);
    expect_error(ErrorCode::no_space, "", [] { SharedMapping memory(kNbytes); });
    const int after = dup(0);
    close(after);
    EXPECT_EQ(before, after) << call;
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST(SharedMapping, SaysWhichPagesItHas) {
  SharedMapping memory(2 * kHugePageNbytes);
  EXPECT_EQ(memory.describe_pages(), "no pages");
  memory.touch(0, memory.nbytes());
  const auto pages = memory.describe_pages();
  if (pages != "huge pages") GTEST_SKIP() << "no huge shared pages here: " << pages;
  // By the kernel's own account: blocks of 512 bytes, and one mapping of 2 MiB
  // that nothing has to fault in.
  struct stat found {};
  ASSERT_EQ(fstat(memory.fd(), &found), 0);
  EXPECT_EQ(found.st_blocks * 512, static_cast<std::int64_t>(memory.nbytes()));
}

TEST(SharedMapping, WithoutHugePagesTakesSmallOnesAndSaysWhy) {
  // Both pages are asked for by one, and the huge ones are refused.
  SharedMapping memory(2 * kHugePageNbytes);
  const fakes::FaultyCalls faults(
      {.mode = FaultMode::fail, .nth = 3, .error = EINVAL, .call = "madvise"});
  memory.touch(0, memory.nbytes());
  EXPECT_TRUE(faults.was_reached());
  EXPECT_EQ(memory.describe_pages(), "small pages (a huge page was refused: Invalid argument)");
  EXPECT_EQ(resident(memory.data(), memory.nbytes()), memory.nbytes());
}

TEST(SharedMapping, OnAnOlderKernelItsSpaceIsReserved) {
  SharedMapping memory(kNbytes);
  static bool is_full;
  os::Calls table = os::system_calls();
  table.madvise = [](void*, std::size_t, int) {
    errno = EINVAL;
    return -1;
  };
  table.fallocate = [](int fd, int mode, off_t offset, off_t nbytes) {
    errno = ENOSPC;
    return is_full ? -1 : os::system_calls().fallocate(fd, mode, offset, nbytes);
  };
  const os::ReplaceCalls old(table);
  is_full = true;
  expect_error(ErrorCode::no_space, "No space left", [&] { memory.touch(0, kNbytes); });
  is_full = false;
  memory.touch(0, kNbytes);
  struct stat found {};
  ASSERT_EQ(fstat(memory.fd(), &found), 0);
  EXPECT_EQ(found.st_blocks * 512, static_cast<std::int64_t>(kNbytes));
  EXPECT_EQ(memory.describe_pages(), "small pages");
}

}  // namespace
}  // namespace understudy::vm
