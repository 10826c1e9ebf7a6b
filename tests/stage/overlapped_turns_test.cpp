// One capture after another.
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "os/mappings.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Limit;
using fakes::Trainer;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

TEST(OverlappedTurnsTest, MappingsDoNotGrow) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Stager stager({.capture = Capture::overlapped});
  std::vector<std::uint64_t> sizes(200, 300 << 10);
  Trainer trainer(sizes);
  const auto capture = [&] {
    auto ticket = stager.stage(trainer.state());
    trainer.step(1, 1);
    ticket.wait().close();
    EXPECT_TRUE(ticket.capture().starts_with("overlapped")) << ticket.capture();
    return os::Mappings::of_this_process().all().size();
  };
  capture();
  const auto before = capture();
  std::size_t after = 0;
  for (int i = 0; i < 50; ++i) after = capture();
  // A few for the writers' stacks, which the test makes itself.
  EXPECT_LE(after, before + 4);
}

TEST(OverlappedTurnsTest, StagersTakeTurnsOverTheSameMemory) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(120);
  Trainer trainer({20 * kMiB, 3 * kMiB, 70 << 10});
  Stager first({.capture = Capture::overlapped}), second({.capture = Capture::overlapped});
  for (std::uint64_t round = 1; round <= 50; ++round) {
    const auto clone = trainer.clone();
    const auto one = first.stage(trainer.state());
    std::optional<Ticket<Snapshot>> two;
    std::thread other([&] { two = second.stage(trainer.state()); });
    other.join();
    trainer.step(round, 2);
    ASSERT_EQ(fakes::count_torn(one.wait(), clone), 0);
    ASSERT_EQ(fakes::count_torn(two->wait(), clone), 0);
  }
}

}  // namespace
}  // namespace understudy
