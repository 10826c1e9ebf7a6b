#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "understudy/checkpointer.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::training_state;
using ::testing::ElementsAre;

class RollbackTest : public ::testing::Test {
 protected:
  fakes::TemporaryFolder folder_;
};

TEST_F(RollbackTest, ARollbackIsToldAndCanDiscardTheOldFuture) {
  for (const bool discard : {false, true}) {
    const fs::path run = folder_.path() / (discard ? "discard" : "keep");
    {
      Checkpointer ckpt({.directory = run});
      for (int step : {100, 300, 400, 500}) ckpt.save(step, training_state(1)).wait();
      fs::remove(run / "step-400" / "checkpoint.json");
    }
    {
      Checkpointer ckpt({.directory = run, .keep = 3});
      auto state = training_state(9);
      EXPECT_EQ(ckpt.resume(state, {.step = 300, .discard_newer = discard}), 300);
      const auto discarded = ckpt.resumed()->discarded;
      EXPECT_EQ(discarded, discard ? (std::vector<std::int64_t>{400, 500}) : decltype(discarded){});
      for (int step : {310, 320, 330}) {
        const auto ticket = ckpt.save(step, training_state(step));
        ticket.wait();
        const auto newer = ticket.metrics().newer_step;
        EXPECT_EQ(newer, discard ? std::nullopt : std::optional<std::int64_t>(500));
      }
    }
    Checkpointer ckpt({.directory = run});
    auto state = training_state(9);
    EXPECT_EQ(ckpt.resume(state), discard ? 330 : 500);
    EXPECT_EQ(ckpt.resume(state, {.step = 320}), 320) << "the new branch is there in any case";
  }
}

TEST_F(RollbackTest, NothingIsDiscardedForAStateThatDoesNotFit) {
  Checkpointer ckpt({.directory = folder_.path()});
  for (int step : {1, 2}) ckpt.save(step, training_state(step));
  auto state = Value::dict({{"other", 1}});
  expect_error(ErrorCode::invalid, "nothing was changed",
               [&] { ckpt.resume(state, {.step = 1, .discard_newer = true}); });
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2)) << "and saves under way were waited for";
}

TEST_F(RollbackTest, WhatPrepareThrowsComesThroughAndChangesNothing) {
  Checkpointer ckpt({.directory = folder_.path()});
  for (int step : {1, 2}) ckpt.save(step, training_state(step)).wait();
  auto state = training_state(9);
  const auto before = fingerprint(state);
  const auto refuse = [&](const Value& merged) {
    EXPECT_EQ(merged.at("step").as_integer(), 1);
    throw std::runtime_error("no");
  };
  EXPECT_THROW(ckpt.resume(state, {.step = 1, .discard_newer = true, .prepare = refuse}),
               std::runtime_error);
  EXPECT_EQ(fingerprint(state), before);
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2));
}

}  // namespace
}  // namespace understudy
