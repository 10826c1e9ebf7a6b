// Saves that wait, saves that go first, and saves that are dropped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fakes/expect_error.h"
#include "fakes/gate.h"
#include "fakes/states.h"
#include "fakes/temporary_folder.h"
#include "understudy/checkpointer.h"

namespace understudy {
namespace {

using fakes::expect_error;
using fakes::Gate;
using fakes::training_state;
using testing::ElementsAre;

class UrgentTest : public testing::Test {
 protected:
  Checkpointer open(int images) {
    // A folder that is new would be synced now, which a gate holds up.
    std::filesystem::create_directory(folder_.path() / "run");
    return Checkpointer({.directory = folder_.path() / "run", .images = images});
  }

  /// Saves step 1, and waits until it is being persisted.
  static Ticket<std::filesystem::path> begin_first(Checkpointer& ckpt) {
    auto first = ckpt.save(1, training_state(1));
    while (first.progress().first == 0) usleep(1000);
    return first;
  }

  fakes::TemporaryFolder folder_;
};

TEST_F(UrgentTest, GoesFirstAndDropsWhatHasNotBegun) {
  Gate gate;  // outlives the checkpointer: its threads are in the calls
  auto ckpt = open(4);
  auto first = begin_first(ckpt);
  auto second = ckpt.save(2, training_state(2));
  auto third = ckpt.save(3, training_state(3));
  auto urgent = ckpt.save(4, training_state(4), {.urgent = true});
  // Told at once, and by the name of who took its place.
  expect_error(ErrorCode::busy,
               "step 2 was not saved: it had not begun when the urgent save of "
               "step 4 took its place",
               [&] { second.wait(); });
  EXPECT_TRUE(third.is_done());
  EXPECT_FALSE(first.is_done());
  gate.open();
  urgent.wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 4));
  // Nobody waited for the third, and still no later call throws it.
  ckpt.save(3, training_state(3)).wait();
  EXPECT_TRUE(ckpt.wait());
  ckpt.close();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 3, 4));
}

TEST_F(UrgentTest, FreesTheImageThatItNeeds) {
  Gate gate;
  auto ckpt = open(2);
  begin_first(ckpt);
  auto second = ckpt.save(2, training_state(2));
  auto urgent = ckpt.save(3, training_state(3), {.urgent = true});  // would wait for ever
  expect_error(ErrorCode::busy, "urgent save of step 3", [&] { second.wait(); });
  gate.open();
  urgent.wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 3));
}

TEST_F(UrgentTest, UrgentOnesKeepTheirOrder) {
  Gate gate;
  auto ckpt = open(4);
  begin_first(ckpt);
  auto second = ckpt.save(2, training_state(2), {.urgent = true});
  auto third = ckpt.save(3, training_state(3), {.urgent = true});
  gate.open();
  second.wait();
  third.wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2, 3));
  EXPECT_LE(std::filesystem::last_write_time(second.wait()),
            std::filesystem::last_write_time(third.wait()));
}

TEST_F(UrgentTest, RefusedOneDropsNothing) {
  Gate gate;
  auto ckpt = open(3);
  begin_first(ckpt);
  auto second = ckpt.save(2, training_state(2));
  const auto opaque = Value::dict({{"o", Opaque{"T", {}, {}, {}}}});
  expect_error(ErrorCode::unsupported, "", [&] { ckpt.save(3, opaque, {.urgent = true}); });
  expect_error(ErrorCode::invalid, "", [&] { ckpt.save(2, training_state(2), {.urgent = true}); });
  gate.open();
  second.wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2));
}

TEST_F(UrgentTest, WithNothingWaitingItIsASave) {
  auto ckpt = open(2);
  ckpt.save(5, training_state(5), {.urgent = true}).wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(5));
}

TEST_F(UrgentTest, NeitherItNorTheOneBeforeItKeepsToTheRate) {
  // At the slowest rate there is the two would take 8 minutes.
  constexpr unsigned kLimitSeconds = 120;
  alarm(kLimitSeconds);
  const auto state = Value::dict({{"w", Tensor::zeros(DType::u8, {256 << 20})}});
  {
    Checkpointer ckpt({.directory = folder_.path() / "run", .max_write_rate = 1 << 20});
    const auto first = ckpt.save(1, state);
    const auto urgent = ckpt.save(2, state, {.urgent = true});
    urgent.wait();
    EXPECT_TRUE(first.is_done());
    EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2));
  }
  alarm(0);
}

TEST_F(UrgentTest, ChoiceOfWriterAndRateReachIt) {
  Checkpointer ckpt({.directory = folder_.path() / "run",
                     .writer = WriterChoice::buffered,
                     .max_write_rate = 100'000'000});
  const auto ticket = ckpt.save(1, training_state(1));
  ticket.wait();
  EXPECT_EQ(ticket.metrics().writer, "buffered");
  expect_error(ErrorCode::invalid, "max_write_rate",
               [&] { Checkpointer({.directory = folder_.path() / "other", .max_write_rate = 5}); });
}

}  // namespace
}  // namespace understudy
