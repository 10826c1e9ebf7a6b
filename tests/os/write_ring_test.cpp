#include "os/write_ring.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/temporary_folder.h"

namespace understudy::os {
namespace {

using fakes::expect_error;
using fakes::FaultMode;
using fakes::FaultyCalls;

constexpr std::size_t kPart = 4 * kDirectUnit;

class WriteRingTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    ring_ = WriteRing::open(2, why);
    if (!ring_) GTEST_SKIP() << why;
  }

  std::span<const std::byte> part(std::size_t index) const {
    return {reinterpret_cast<const std::byte*>(text_.data()) + index * kPart, kPart};
  }

  void expect_written(std::size_t parts) {
    EXPECT_EQ(fakes::read_text(folder_ / "a"), text_.substr(0, parts * kPart));
  }

  static std::string make_text() {
    std::string text(4 * kPart, '\0');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 4096);
    return text;
  }

  fakes::TemporaryFolder folder_;
  Directory directory_ = Directory::open(folder_.path());
  const std::string text_ = make_text();
  std::unique_ptr<WriteRing> ring_;
};

TEST_F(WriteRingTest, GivesEachSlotBackOnce) {
  const File file = std::move(*directory_.create("a"));
  ring_->begin(0, file, 0, part(0));
  ring_->begin(1, file, kPart, part(1));
  EXPECT_EQ(ring_->in_flight(), 2u);
  EXPECT_EQ(ring_->wait() + ring_->wait(), 1u);
  EXPECT_EQ(ring_->in_flight(), 0u);
  EXPECT_FALSE(ring_->has_ended_one());
  expect_written(2);
}

TEST_F(WriteRingTest, RestOfAShortWriteFollowsBeforeItsSlotIsFree) {
  const File file = std::move(*directory_.create("a"));
  const FaultyCalls faults({.mode = FaultMode::short_count, .nth = 1, .call = "uring_result"});
  ring_->begin(0, file, 0, part(0));
  EXPECT_EQ(ring_->wait(), 0u);
  EXPECT_EQ(faults.count(), 2);
  expect_written(1);
}

TEST_F(WriteRingTest, FailedWriteLeavesTheOthersUnderWay) {
  const File file = std::move(*directory_.create("a"));
  {
    const FaultyCalls faults(
        {.mode = FaultMode::fail, .nth = 1, .error = ENOSPC, .call = "uring_result"});
    ring_->begin(0, file, 0, part(0));
    ring_->begin(1, file, kPart, part(1));
    expect_error(ErrorCode::no_space, "cannot write " + (folder_ / "a").string(),
                 [&] { ring_->wait(); });
    EXPECT_TRUE(faults.was_reached());
  }
  EXPECT_EQ(ring_->in_flight(), 1u);
  ring_.reset();  // waits
  expect_written(2);
}

TEST_F(WriteRingTest, FailureOfTheRingNamesTheFile) {
  const File file = std::move(*directory_.create("a"));
  for (const char* call : {"uring_submit", "uring_wait"}) {
    std::string why;
    const auto ring = WriteRing::open(2, why);
    const FaultyCalls faults({.mode = FaultMode::fail, .error = EBADF, .call = call});
    expect_error(ErrorCode::io, (folder_ / "a").string(), [&] {
      ring->begin(0, file, 0, part(0));
      ring->wait();
    });
    EXPECT_TRUE(faults.was_reached());
  }
}

TEST_F(WriteRingTest, SaysWhyItIsRefused) {
  const FaultyCalls faults({.mode = FaultMode::fail, .error = EPERM, .call = "uring_open"});
  std::string why;
  EXPECT_EQ(WriteRing::open(2, why), nullptr);
  EXPECT_EQ(why, "cannot set up a ring: Operation not permitted");
}

}  // namespace
}  // namespace understudy::os
