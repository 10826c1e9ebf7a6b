#include "vm/write_protection.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <thread>

#include "fakes/expect_error.h"
#include "os/calls.h"
#include "os/event.h"

namespace understudy::vm {
namespace {

using Answer = WriteProtection::Answer;

constexpr std::uint64_t kPage = 4096, kNbytes = std::uint64_t{8} << 20;

// Memory that is registered, unless this machine cannot.
class WriteProtectionTest : public testing::Test {
 protected:
  void SetUp() override {
    try {
      protection_.emplace();
    } catch (const Error& error) {
      GTEST_SKIP() << "no write protection here: " << error.what();
    }
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, kNbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(data_, 1, kNbytes);
    at_ = reinterpret_cast<std::uintptr_t>(data_);
    ASSERT_TRUE(protection_->add(at_, at_ + kNbytes));
  }
  void TearDown() override {
    protection_.reset();
    if (data_ != nullptr) ::munmap(data_, kNbytes);
  }

  std::optional<WriteProtection> protection_;
  std::byte* data_ = nullptr;
  std::uintptr_t at_ = 0;
};

TEST_F(WriteProtectionTest, AWriterWaitsUntilItIsLifted) {
  ASSERT_TRUE(protection_->protect(at_, kNbytes));
  EXPECT_EQ(protection_->is_protected(at_, kNbytes), Answer::yes);
  std::atomic<bool> has_written{false};
  std::thread writer([&] {
    data_[5 * kPage + 7] = std::byte{2};
    has_written = true;
  });
  os::Event interrupt;
  std::array<std::uintptr_t, 16> addresses{};
  ASSERT_EQ(protection_->wait_for_writes(addresses, interrupt), 1);
  EXPECT_EQ(addresses[0] / kPage, at_ / kPage + 5);
  EXPECT_FALSE(has_written);
  std::byte before{};
  EXPECT_EQ(copy_fault_proof(&before, data_ + 5 * kPage + 7, 1), CopyResult::done);
  EXPECT_EQ(before, std::byte{1});
  EXPECT_TRUE(protection_->lift(at_, kNbytes));
  writer.join();
  EXPECT_EQ(data_[5 * kPage + 7], std::byte{2});
  EXPECT_EQ(protection_->is_protected(at_, kNbytes), Answer::no);
}

TEST_F(WriteProtectionTest, WaitingIsInterrupted) {
  os::Event interrupt;
  interrupt.set();
  std::array<std::uintptr_t, 16> addresses{};
  EXPECT_EQ(protection_->wait_for_writes(addresses, interrupt), 0);
  interrupt.clear();
  EXPECT_FALSE(interrupt.wait(0));
}

TEST_F(WriteProtectionTest, OnePageThatIsLiftedDroppedOrMappedAnewIsSeen) {
  ASSERT_TRUE(protection_->protect(at_, kNbytes));
  protection_->lift(at_ + 3 * kPage, kPage);
  EXPECT_EQ(protection_->is_protected(at_, 8 * kPage), Answer::no);
  EXPECT_EQ(protection_->is_protected(at_ + 4 * kPage, kNbytes - 4 * kPage), Answer::yes);
  ::madvise(data_ + 10 * kPage, kPage, MADV_DONTNEED);
  EXPECT_EQ(protection_->is_protected(at_ + 8 * kPage, 8 * kPage), Answer::no);
  ::munmap(data_ + 20 * kPage, kPage);
  EXPECT_EQ(protection_->is_protected(at_ + 16 * kPage, 8 * kPage), Answer::no);
  ::mmap(data_ + 20 * kPage, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
         -1, 0);
  std::memset(data_ + 20 * kPage, 1, kPage);
  EXPECT_EQ(protection_->is_protected(at_ + 16 * kPage, 8 * kPage), Answer::no);
  EXPECT_FALSE(protection_->protect(at_ + 16 * kPage, 8 * kPage)) << "mapped anew: not registered";
  // What can be lifted is lifted.
  EXPECT_FALSE(protection_->lift(at_ + 16 * kPage, 8 * kPage));
  EXPECT_EQ(protection_->is_protected(at_ + 16 * kPage, kPage), Answer::no);
  EXPECT_EQ(protection_->is_protected(at_ + 23 * kPage, kPage), Answer::no);
}

TEST_F(WriteProtectionTest, PagesThatWereNeverTouchedStayProtectedWhenRead) {
  ::madvise(data_, kNbytes, MADV_DONTNEED);
  ASSERT_TRUE(protection_->protect(at_, kNbytes));
  std::array<std::byte, 2 * kPage> out{};
  EXPECT_EQ(copy_fault_proof(out.data(), data_ + kPage, out.size()), CopyResult::done);
  EXPECT_EQ(protection_->is_protected(at_, kNbytes), Answer::yes);
  protection_->lift(at_, kNbytes);
}

TEST_F(WriteProtectionTest, TheEndLiftsEverything) {
  ASSERT_TRUE(protection_->protect(at_, kNbytes));
  std::thread writer([&] { std::memset(data_, 3, kNbytes); });
  protection_.reset();
  writer.join();
  EXPECT_EQ(data_[kNbytes - 1], std::byte{3});
}

TEST_F(WriteProtectionTest, MemoryOfAnotherUserfaultfdIsRefused) {
  WriteProtection other;
  EXPECT_FALSE(other.add(at_, at_ + kNbytes));
}

TEST(CopyFaultProof, StopsWhereMemoryEnds) {
  auto* const data = static_cast<std::byte*>(
      ::mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memset(data, 1, 4 * kPage);
  std::array<std::byte, 4 * kPage> out{};
  EXPECT_EQ(copy_fault_proof(out.data(), data, out.size()), CopyResult::done);
  EXPECT_EQ(std::memcmp(out.data(), data, out.size()), 0);
  ::munmap(data + 2 * kPage, kPage);
  EXPECT_EQ(copy_fault_proof(out.data(), data, out.size()), CopyResult::not_mapped);
  EXPECT_EQ(copy_fault_proof(out.data(), data, 2 * kPage), CopyResult::done);
  ::munmap(data, 4 * kPage);
}

TEST(WriteProtectionErrors, AKernelThatCannotIsNamed) {
  auto calls = os::system_calls();
  calls.ioctl = [](int, unsigned long, void*) {
    errno = EINVAL;
    return -1;
  };
  calls.userfaultfd = [](int) { return ::dup(1); };
  const os::ReplaceCalls replaced(calls);
  fakes::expect_error(ErrorCode::unsupported, "Linux 6.4", [] { WriteProtection protection; });
}

}  // namespace
}  // namespace understudy::vm
