// Who waits in a stager is awake, and leaves everything as it was.
#include "understudy/waiting.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "stage/meanwhile.h"
#include "stage/snapshot.h"

namespace understudy {
namespace {

struct Interrupt : std::runtime_error {
  Interrupt() : std::runtime_error("interrupt") {}
};

Value numbers(std::int64_t fill, std::int64_t count = 1000) {
  auto t = Tensor::zeros(DType::u8, {count});
  std::memset(t.data(), static_cast<int>(fill), t.nbytes());
  return Value::dict({{"n", Value(fill)}, {"t", t}});
}

void expect_numbers(const Snapshot& snapshot, int fill) {
  const auto state = snapshot.state();
  EXPECT_EQ(state.at("n").as_integer(), fill);
  EXPECT_TRUE(fakes::holds_only(state.at("t").as_tensor(), fill));
}

TEST(StageWaitingTest, AnInterruptedWaitForAnImageChangesNothing) {
  const fakes::Limit limit(60);
  Stager stager({.images = 1});
  const auto state = numbers(1);
  auto held = stager.stage(state, 1).wait();
  {
    const WhileWaiting waiting([] { throw Interrupt(); });
    EXPECT_THROW(stager.stage(numbers(2, 500), 2), Interrupt);
    EXPECT_THROW(stager.stage_again({1, 3, {}, {}, nullptr}), Interrupt);
  }
  expect_numbers(held, 1);
  held.close();
  const auto again = stager.stage_again({1, 4, {{0, Value(1)}}, {}, nullptr});
  ASSERT_TRUE(again) << "the last state is still the last";
  const auto got = again->wait();
  expect_numbers(got, 1);
}

TEST(StageWaitingTest, WhoWaitsForAnImageMayUseTheStager) {
  const fakes::Limit limit(60);
  Stager stager({.images = 1});
  auto held = stager.stage(numbers(1), 1).wait();
  int looks = 0;
  const WhileWaiting waiting([&] {
    if (++looks > 1) return;
    held.close();
    const auto other = stager.stage(numbers(7, 3000), 7).wait();
    expect_numbers(other, 7);
  });
  const auto snapshot = stager.stage(numbers(2), 2).wait();
  expect_numbers(snapshot, 2);
  EXPECT_EQ(looks, 1);
}

TEST(StageWaitingTest, AnInterruptedWaitForAnEarlierFlightChangesNothing) {
  SKIP_WITHOUT_USERFAULTFD();
  fakes::HeldUp t;
  const auto first = t.stager.stage(t.memory.state(), 1);
  {
    const WhileWaiting waiting([] { throw Interrupt(); });
    EXPECT_THROW(t.stager.stage(t.memory.state(), 2), Interrupt);
  }
  int looks = 0;
  const WhileWaiting waiting([&] {
    if (++looks == 1) t.meanwhile.over();
  });
  const auto second = t.stager.stage(t.memory.state(), 3);
  EXPECT_GT(second.metrics().waited_s, 0);
  EXPECT_TRUE(fakes::holds_only(fakes::weight(first.wait()), 1));
  EXPECT_TRUE(fakes::holds_only(fakes::weight(second.wait()), 1));
}

// The scalars have gone into the tree when the wait begins.
TEST(StageWaitingTest, AgainGoesOnAfterTheWaitForAnEarlierFlight) {
  SKIP_WITHOUT_USERFAULTFD();
  fakes::HeldUp t;
  const auto state = [&](int n) {
    return Value::dict({{"n", Value(n)}, {"t", t.memory.tensor()}});
  };
  const auto first = t.stager.stage(state(1), 1);
  const WhileWaiting waiting([&] { t.meanwhile.over(); });
  const auto second = t.stager.stage_again({1, 2, {{0, Value(5)}}, {}, nullptr});
  ASSERT_TRUE(second);
  EXPECT_GT(second->metrics().waited_s, 0);
  EXPECT_EQ(second->metrics().plan, "again");
  EXPECT_EQ(second->wait().state().at("n").as_integer(), 5);
  EXPECT_EQ(first.wait().state().at("n").as_integer(), 1);
}

// Sparse places of an image that another state has filled; the capture that would
// have emptied them did not come to that.
TEST(StageWaitingTest, WhatAnInterruptedCaptureDidNotFillIsFilledByTheNext) {
  SKIP_WITHOUT_USERFAULTFD();
  fakes::HeldUp t;
  Stager other({.images = 1, .capture = Capture::overlapped});
  // Extents of 100 bytes, with gaps up to the next multiple of 64 behind them.
  const auto many = [](int fill, std::int64_t nbytes, bool has_large) {
    Value::Pairs pairs;
    for (int i = 0; i < 50; ++i) {
      auto small = Tensor::zeros(DType::u8, {nbytes});
      std::memset(small.data(), fill, small.nbytes());
      pairs.emplace_back(std::to_string(i), small);
    }
    if (has_large) pairs.emplace_back("large", Tensor::zeros(DType::u8, {std::int64_t{1} << 20}));
    return Value::dict(std::move(pairs));
  };
  other.stage(many(0xff, 128, false), 0).wait().close();
  const auto first = t.stager.stage(t.memory.state(), 1);
  {
    const WhileWaiting waiting([] { throw Interrupt(); });
    EXPECT_THROW(other.stage(many(1, 100, true), 0), Interrupt);
  }
  t.meanwhile.over();
  first.wait();
  const auto used = other.stage(many(1, 100, true), 0).wait();
  Stager fresh({.images = 1, .capture = Capture::blocking});
  const auto clean = fresh.stage(many(1, 100, true), 0).wait();
  const auto bytes = [](const Snapshot& snapshot) {
    const auto contents = snapshot.shared_state()->contents();
    return std::string(reinterpret_cast<const char*>(contents.image->data()), snapshot.nbytes());
  };
  EXPECT_EQ(bytes(used), bytes(clean));
}

}  // namespace
}  // namespace understudy
