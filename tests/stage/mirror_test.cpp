#include "understudy/mirror.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>
#include <vector>

#include "fakes/cuda/use_fake_cuda.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "understudy/error.h"

namespace understudy {
namespace {

class EachMemory : public testing::TestWithParam<Memory> {};
INSTANTIATE_TEST_SUITE_P(Mirror, EachMemory, testing::Values(Memory::pageable, Memory::shared));

TEST(Mirror, PrivateBuffersOfASizeAreUsedAgain) {
  Mirror mirror;
  auto first = mirror.take(5000);
  const auto* data = first->data;
  EXPECT_EQ(first->nbytes, 5000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 64, 0u);
  const auto second = mirror.take(5000);
  EXPECT_NE(second->data, data);  // the first is still held
  first.reset();
  EXPECT_NE(mirror.take(5001)->data, data);  // another size
  EXPECT_EQ(mirror.take(5000)->data, data);
}

TEST_P(EachMemory, CopiesOfEverySize) {
  Mirror mirror({.memory = GetParam(), .threads = 3});
  std::vector<std::vector<std::byte>> sources;
  std::vector<std::shared_ptr<const Buffer>> buffers;
  std::vector<ByteCopy> copies;
  for (const std::size_t n : {1u, 63u, 64u, 4096u, 262143u, 262144u, 262209u, 5242881u, 0u, 7u}) {
    auto& source = sources.emplace_back(n);
    for (std::size_t i = 0; i < n; ++i) source[i] = static_cast<std::byte>(i * 31 + n);
    buffers.push_back(mirror.take(n));
    copies.push_back({source.data(), buffers.back()->data, n});
  }
  mirror.copy(copies);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].empty()) continue;
    EXPECT_EQ(std::memcmp(buffers[i]->data, sources[i].data(), sources[i].size()), 0) << i;
  }
}

TEST_P(EachMemory, CopiesBetweenAnyAddresses) {
  Mirror mirror({.memory = GetParam()});
  constexpr std::size_t kNbytes = 300000;
  std::vector<std::byte> source(kNbytes + 64);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7);
  const auto buffer = mirror.take(kNbytes + 64);
  for (const std::size_t from : {0u, 1u, 33u}) {
    for (const std::size_t to : {0u, 5u, 63u}) {
      std::memset(buffer->data, 0xee, buffer->nbytes);
      mirror.copy({{source.data() + from, buffer->data + to, kNbytes}});
      EXPECT_EQ(std::memcmp(buffer->data + to, source.data() + from, kNbytes), 0);
      if (to > 0) {
        EXPECT_EQ(buffer->data[to - 1], std::byte{0xee});
      }
      EXPECT_EQ(buffer->data[to + kNbytes], std::byte{0xee});
    }
  }
}

TEST(Mirror, SharedBuffersAreNeverUsedAgain) {
  Mirror mirror({.memory = Memory::shared});
  mirror.take(5000).reset();
  EXPECT_EQ(mirror.nbytes(), 0u);
}

TEST(Mirror, BuffersThatEndAfterClearAreNotKept) {
  Mirror mirror;
  auto held = mirror.take(100);
  mirror.clear();
  held.reset();
  EXPECT_EQ(mirror.nbytes(), 0u);
  mirror.take(100).reset();
  EXPECT_EQ(mirror.nbytes(), 100u);
}

TEST(Mirror, FreeBuffersGoAfterTheSecondTrim) {
  Mirror mirror;
  auto held = mirror.take(100);
  mirror.take(200).reset();
  EXPECT_EQ(mirror.nbytes(), 300u);
  mirror.trim();
  EXPECT_EQ(mirror.nbytes(), 300u);  // freed in this round
  mirror.trim();
  EXPECT_EQ(mirror.nbytes(), 100u);
  held.reset();
  mirror.clear();
  EXPECT_EQ(mirror.nbytes(), 0u);
}

TEST_P(EachMemory, BuffersOutliveTheirMirror) {
  std::shared_ptr<const Buffer> buffer;
  {
    Mirror mirror({.memory = GetParam()});
    buffer = mirror.take(1 << 20);
  }
  std::memset(buffer->data, 1, buffer->nbytes);
  std::thread([b = std::move(buffer)]() mutable { b.reset(); }).join();
}

TEST_P(EachMemory, MoreThanThereIsIsAnErrorThatSaysHowMuch) {
  Mirror mirror({.memory = GetParam()});
  try {
    mirror.take(std::uint64_t{1} << 50);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::no_space);
    EXPECT_NE(std::string(e.what()).find("are missing"), std::string::npos) << e.what();
  }
  EXPECT_EQ(mirror.nbytes(), 0u);
}

TEST(Mirror, SharedBuffersCanBeMappedByTheirDescriptor) {
  Mirror mirror({.memory = Memory::shared});
  const auto buffer = mirror.take(10000);
  ASSERT_GE(buffer->fd, 0);
  const char text[] = "seen through both";
  mirror.copy({{reinterpret_cast<const std::byte*>(text), buffer->data, sizeof text}});
  void* other = mmap(nullptr, 10000, PROT_READ, MAP_SHARED, buffer->fd, 0);
  ASSERT_NE(other, MAP_FAILED);
  EXPECT_STREQ(static_cast<const char*>(other), text);
  munmap(other, 10000);
}

TEST(Mirror, ABufferIsMappedByWhoGotItsDescriptor) {
  Mirror mirror({.memory = Memory::shared});
  const auto buffer = mirror.take(10000);
  mirror.prepare({{nullptr, buffer->data, 10000}});
  const auto other = map_buffer(dup(buffer->fd), 10000);
  EXPECT_NE(other->data, buffer->data);
  buffer->data[9999] = std::byte{7};
  EXPECT_EQ(other->data[9999], std::byte{7});
  other->data[0] = std::byte{8};
  EXPECT_EQ(buffer->data[0], std::byte{8});
}

TEST(Mirror, AShortBufferIsRefused) {
  Mirror mirror({.memory = Memory::shared});
  const auto buffer = mirror.take(10000);
  const int fd = dup(buffer->fd);
  fakes::expect_error(ErrorCode::invalid, "20000 bytes has 10000 bytes",
                      [&] { map_buffer(fd, 20000); });
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);  // it was taken
  fakes::expect_error(ErrorCode::invalid, "0 bytes", [&] { map_buffer(dup(buffer->fd), 0); });
  fakes::expect_error(ErrorCode::invalid, "descriptor -1", [] { map_buffer(-1, 10); });
}

// Results are the user's, who may use them in a forked child.
TEST(Mirror, SharedBuffersAreThereInAForkedChild) {
  Mirror mirror({.memory = Memory::shared});
  const auto buffer = mirror.take(10000);
  mirror.prepare({{nullptr, buffer->data, 10000}});
  const pid_t child = fork();
  if (child == 0) {
    buffer->data[5] = std::byte{9};
    _exit(0);
  }
  int status = 1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(buffer->data[5], std::byte{9});
}

class EachPinned : public testing::TestWithParam<Memory> {};
INSTANTIATE_TEST_SUITE_P(Mirror, EachPinned, testing::Values(Memory::pinned, Memory::shared));

TEST_P(EachPinned, BuffersArePinnedFromTheirFirstCopyToTheirEnd) {
  const fakes::UseFakeCuda fake;
  {
    Mirror mirror({.memory = GetParam(), .pin = true, .pin_min_nbytes = 5});
    std::vector<std::shared_ptr<const Buffer>> buffers;
    std::vector<ByteCopy> copies;
    const std::vector<std::byte> source(5 << 20, std::byte{7});
    for (const std::uint64_t n : {1u, 4u, 5u, 4096u, 5u << 20, 0u}) {
      buffers.push_back(mirror.take(n));
      copies.push_back({source.data(), buffers.back()->data, n});
    }
    mirror.copy(copies);
    mirror.copy(copies);
    EXPECT_EQ(fake->registrations, 3);
    EXPECT_EQ(fake->nbytes, 5 + 4096 + (5 << 20));
    EXPECT_EQ(buffers[4]->data[(5 << 20) - 1], std::byte{7});
    buffers.clear();
    // Private ones wait in the pool, pinned.
    EXPECT_EQ(fake->registered, GetParam() == Memory::pinned ? 3 : 0);
    EXPECT_EQ(mirror.take(4096)->nbytes, 4096u);
    mirror.clear();
    EXPECT_EQ(fake->registered, 0);
  }
  EXPECT_EQ(fake->unregistrations, 3);
  EXPECT_EQ(fake->late_unregistrations, 0);
  EXPECT_EQ(fake->retained, 0);
}

TEST_P(EachPinned, FailureChangesNothingAndLeavesNothing) {
  const fakes::UseFakeCuda fake;
  Mirror mirror({.memory = GetParam(), .pin = true});
  const std::vector<std::byte> source(4096, std::byte{7}), later(4096, std::byte{8});
  const auto first = mirror.take(4096);
  mirror.copy({{source.data(), first->data, 4096}});
  fake->register_result = 2;
  auto second = mirror.take(4096);
  try {
    mirror.copy({{later.data(), first->data, 4096}, {later.data(), second->data, 4096}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::no_space);
    EXPECT_NE(std::string(e.what()).find("4096 bytes"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("CUDA_ERROR_OUT_OF_MEMORY"), std::string::npos);
  }
  EXPECT_EQ(fake->failures, 1);
  EXPECT_EQ(first->data[0], std::byte{7});
  EXPECT_EQ(fake->registered, 1);
  fake->register_result = 0;
  mirror.copy({{later.data(), second->data, 4096}});
  EXPECT_EQ(second->data[0], std::byte{8});
  EXPECT_EQ(fake->registered, 2);
}

TEST(Mirror, PinnedBuffersOutliveTheirMirrorAndTheDriver) {
  const fakes::UseFakeCuda fake;
  std::shared_ptr<const Buffer> buffer;
  {
    Mirror mirror({.memory = Memory::pinned});
    buffer = mirror.take(4096);
    const std::byte byte{1};
    mirror.copy({{&byte, buffer->data, 1}});
  }
  EXPECT_EQ(fake->registered, 1);
  EXPECT_EQ(fake->retained, 1);
  std::thread([b = std::move(buffer)]() mutable { b.reset(); }).join();
  EXPECT_EQ(fake->registered, 0);
  EXPECT_EQ(fake->retained, 0);
}

TEST(Mirror, PinnedMemoryWithoutCudaIsRefusedByName) {
  const auto missing = device::open_cuda_library("/nowhere/libcuda.so.1");
  const device::ReplaceCudaLibrary replaced(missing);
  for (const MirrorOptions& options : {MirrorOptions{.memory = Memory::pinned},
                                       MirrorOptions{.memory = Memory::shared, .pin = true}}) {
    try {
      Mirror mirror(options);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::unsupported);
      EXPECT_NE(std::string(e.what()).find("no CUDA driver"), std::string::npos) << e.what();
    }
  }
}

TEST_P(EachMemory, PagesThatCannotBeMadeLeaveEarlierResultsAsTheyWere) {
  Mirror mirror({.memory = GetParam()});
  constexpr std::size_t kNbytes = 3 << 20;
  const std::vector<std::byte> source(kNbytes, std::byte{7}), later(kNbytes, std::byte{8});
  const auto first = mirror.take(kNbytes);
  mirror.copy({{source.data(), first->data, kNbytes}});
  const auto second = mirror.take(kNbytes);
  const std::vector<ByteCopy> both{{later.data(), first->data, kNbytes},
                                   {later.data(), second->data, kNbytes}};
  {
    const fakes::FaultyCalls faults(
        {.mode = fakes::FaultMode::fail, .error = EFAULT, .call = "madvise"});
    EXPECT_THROW(mirror.copy(both), Error);
    EXPECT_TRUE(faults.was_reached());
  }
  EXPECT_EQ(std::memcmp(first->data, source.data(), kNbytes), 0);
  mirror.copy(both);
  EXPECT_EQ(std::memcmp(first->data, later.data(), kNbytes), 0);
  EXPECT_EQ(std::memcmp(second->data, later.data(), kNbytes), 0);
}

}  // namespace
}  // namespace understudy
