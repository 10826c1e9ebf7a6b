// Overlapped capture while everything is overwritten at once.
#include "stage/overlapped.h"

#include <gtest/gtest.h>

#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Trainer;

constexpr std::uint64_t kKiB = 1024, kMiB = kKiB * kKiB;

// Sizes on both sides of every threshold: under 64 KiB, under a chunk, over it,
// neighbours on the heap, ends inside of a page.
const std::vector<std::uint64_t> kSizes = {
    100,      4096,         60 * kKiB,     64 * kKiB,  72 * kKiB, 130 * kKiB, 300 * kKiB + 40,
    2 * kMiB, 5 * kMiB + 8, 3 * kMiB - 16, 200 * kKiB, 8,         9 * kMiB,   70 * kKiB};

// The thread sanitizer makes each round 50 times slower.
#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kRounds = 30;
#else
constexpr std::uint64_t kRounds = 300;
#endif

TEST(OverlappedTest, CapturesTheInstantWhileEverythingIsOverwritten) {
  SKIP_WITHOUT_USERFAULTFD();
  Stager stager({.capture = Capture::overlapped});
  Trainer trainer(kSizes);
  std::uint64_t faults = 0;
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    const auto clone = trainer.clone();
    const auto ticket = stager.stage(trainer.state());
    trainer.step(round, round % 3 == 0 ? 1 : 4);
    auto snapshot = ticket.wait();
    ASSERT_EQ(fakes::count_torn(snapshot, clone), 0) << "round " << round;
    ASSERT_TRUE(ticket.capture().starts_with("overlapped")) << ticket.capture();
    faults += ticket.metrics().faults;
    snapshot.close();
  }
  EXPECT_GT(faults, 0U) << "nothing was ever caught: the test tests nothing";
}

}  // namespace
}  // namespace understudy
