// Captures into new images, whose pages are made behind the call.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "stage/meanwhile.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::expect_error;
using fakes::holds_only;
using fakes::Trainer;
using fakes::weight;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kKiB = 1024, kMiB = kKiB * kKiB;

#if defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kRounds = 5;
#else
constexpr std::uint64_t kRounds = 30;
#endif

// The second is smaller, so that not even its layout is that of the first.
TEST(OverlappedNewImageTest, HoldsTheInstantWhileEverythingIsOverwritten) {
  SKIP_WITHOUT_USERFAULTFD();
  const fakes::Limit limit(240);
  Trainer large({100, 9 * kMiB + 24, 70 * kKiB, 60 * kKiB, 3 * kMiB, 2 * kMiB + 8, 5 * kMiB});
  Trainer small({300 * kKiB, 64, 4 * kMiB});
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    Stager stager({.images = 2, .capture = Capture::overlapped});
    auto& trainer = round % 2 == 0 ? large : small;
    for (std::uint64_t image = 0; image < 2; ++image) {
      const auto clone = trainer.clone();
      const auto ticket = stager.stage(trainer.state());
      ASSERT_TRUE(ticket.capture().starts_with("overlapped")) << ticket.capture();
      trainer.step(2 * round + image, 2);
      const auto snapshot = ticket.wait();
      ASSERT_EQ(fakes::count_torn(snapshot, clone), 0) << "round " << round;
      ASSERT_THAT(ticket.metrics().memory, Not(HasSubstr("no pages")));
    }
  }
}

TEST(OverlappedNewImageTest, PagesAreMadeForWritesThatWait) {
  SKIP_WITHOUT_USERFAULTFD();
  fakes::HeldUp t;
  t.meanwhile.watch(t.memory.data() + fakes::kFarOff);
  const auto ticket = t.stager.stage(t.memory.state());
  std::thread writer([&] { t.memory.data()[fakes::kFarOff + 2 * kMiB] = std::byte{9}; });
  t.meanwhile.wait_for_a_writer();
  t.meanwhile.over();
  writer.join();
  EXPECT_TRUE(holds_only(weight(ticket.wait()), 1));
  EXPECT_GT(ticket.metrics().faults, 0U);
}

// What is left undone is done by the next.
TEST(OverlappedNewImageTest, WithoutMemoryForItsPagesTheTicketFailsAndNamesTheTensor) {
  SKIP_WITHOUT_USERFAULTFD();
  const fakes::Limit limit(60);
  fakes::PlantedProtection planted;
  fakes::Mapped memory(16 * kMiB);
  memory.fill(1);
  // When pages are protected, all that the call itself writes to is there.
  planted.on_protect = [&](uffdio_range&) {
    planted.madvise_error = ENOMEM;
    return 0;
  };
  Stager stager({.images = 1, .capture = Capture::overlapped});
  const auto ticket = stager.stage(memory.state());
  expect_error(ErrorCode::no_space, "model.weight", [&] { ticket.wait(); });
  memory.fill(2);
  planted.on_protect = nullptr;
  planted.madvise_error = 0;
  EXPECT_TRUE(holds_only(weight(stager.stage(memory.state()).wait()), 2));
  EXPECT_TRUE(holds_only(weight(stager.stage(memory.state()).wait()), 2));
}

TEST(OverlappedNewImageTest, WithoutMemoryForWhatTheCallWritesTheCallFails) {
  SKIP_WITHOUT_USERFAULTFD();
  const fakes::Limit limit(60);
  fakes::PlantedProtection planted;
  fakes::Mapped memory(16 * kMiB);
  memory.fill(1);
  Stager stager({.images = 1, .capture = Capture::overlapped});
  planted.madvise_error = ENOMEM;
  expect_error(ErrorCode::no_space, "", [&] { stager.stage(memory.state()); });
  planted.madvise_error = 0;
  EXPECT_TRUE(holds_only(weight(stager.stage(memory.state()).wait()), 1));
}

}  // namespace
}  // namespace understudy
