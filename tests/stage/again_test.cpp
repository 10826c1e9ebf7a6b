// A state that is staged again: by its number, and by a walk over other addresses.
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "stage/places.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;

Value state_of(const Tensor& a, const Tensor& b, int step) {
  return Value::dict({{"a", a}, {"list", Value::list({step, 0.5, "x"})}, {"b", b}});
}

struct AgainTest : testing::Test {
  Tensor a = counting(DType::f32, {100}, 1), b = counting(DType::u8, {7, 3}, 2);
  Stager stager;

  void SetUp() override {
    const auto ticket = stager.stage(state_of(a, b, 1), 5);
    EXPECT_EQ(ticket.metrics().plan, "new");
    ticket.wait().close();
  }
  std::string again(const Again& what) {
    const auto ticket = stager.stage_again(what);
    EXPECT_TRUE(ticket);
    EXPECT_EQ(ticket->metrics().plan, "again");
    return fingerprint(ticket->wait().state());
  }
};

TEST_F(AgainTest, TakesNewBytesAndScalars) {
  a.data()[3] = b.data()[2] = std::byte{99};
  const Again first{5, 6, {{0, Value(2000)}, {2, Value("longer \"text\"")}}, {}, {}};
  const auto expected =
      Value::dict({{"a", a}, {"list", Value::list({2000, 0.5, "longer \"text\""})}, {"b", b}});
  EXPECT_EQ(again(first), fingerprint(expected));
  // What was not changed is as it was left.
  const Again second{6, 7, {{1, Value()}}, {}, {}};
  const auto then =
      Value::dict({{"a", a}, {"list", Value::list({2000, Value(), "longer \"text\""})}, {"b", b}});
  EXPECT_EQ(again(second), fingerprint(then));
}

TEST_F(AgainTest, TakesTensorsFromElsewhere) {
  const auto other = counting(DType::f32, {100}, 8);
  const auto ticket = stager.stage_again({5, 6, {}, {{0, other.data()}}, {}});
  EXPECT_EQ(fingerprint(ticket->wait().state()), fingerprint(state_of(other, b, 1)));
}

TEST_F(AgainTest, OnlyTheLastStateIsKnown) {
  EXPECT_FALSE(stager.stage_again({4, 6, {}, {}, {}}));
  EXPECT_FALSE(stager.stage_again({0, 6, {}, {}, {}}));
  EXPECT_TRUE(stager.stage_again({5, 6, {}, {}, {}}));
  EXPECT_FALSE(stager.stage_again({5, 7, {}, {}, {}}));
  stager.stage(state_of(a, b, 1)).wait().close();
  EXPECT_FALSE(stager.stage_again({6, 7, {}, {}, {}}));
  EXPECT_FALSE(stager.stage_again({0, 7, {}, {}, {}}));
  EXPECT_FALSE(Stager().stage_again({1, 2, {}, {}, {}}));
}

TEST_F(AgainTest, ThereMustBeSuchALeaf) {
  expect_error(ErrorCode::invalid, "no scalar 3", [&] {
    (void)stager.stage_again({5, 6, {{3, Value(1)}}, {}, {}});
  });
  EXPECT_FALSE(stager.stage_again({5, 6, {}, {{2, a.data()}}, {}}));
  EXPECT_EQ(again({5, 6, {}, {}, {}}), fingerprint(state_of(a, b, 1)));
}

TEST_F(AgainTest, KeepsTheOwnersNoLongerThanTheCapture) {
  auto owner = std::make_shared<int>(1);
  const std::weak_ptr<int> seen = owner;
  stager.stage_again({5, 6, {}, {}, std::move(owner)})->wait().close();
  EXPECT_TRUE(seen.expired());
}

TEST(StagerMovesTest, AWalkFindsTensorsThatHaveMoved) {
  Stager stager;
  for (int i = 0; i < 4; ++i) {
    const auto a = counting(DType::f32, {100}, i), b = counting(DType::f64, {10, 10}, i);
    const auto state = state_of(a, Tensor(b.storage(), DType::f64, {10, 5}, {10, 2}), i);
    const auto ticket = stager.stage(state);
    EXPECT_EQ(ticket.metrics().plan, i == 0 ? "new" : "same");
    EXPECT_EQ(fingerprint(ticket.wait().state()), fingerprint(state));
  }
}

TEST(StagerMovesTest, BytesThatAreSharedTakeAnotherPlan) {
  Stager stager;
  const auto a = counting(DType::u8, {100}, 1), c = counting(DType::u8, {100}, 1);
  const auto part = [&](std::int64_t begin) {
    return Tensor(a.storage(), DType::u8, {50}, {1}, static_cast<std::uint64_t>(begin));
  };
  const auto plan = [&](const Tensor& x, const Tensor& y) {
    const auto state = state_of(x, y, 1);
    const auto ticket = stager.stage(state);
    const auto got = ticket.wait().state();
    EXPECT_EQ(fingerprint(got), fingerprint(state));
    // One byte for both, or one each.
    auto* const last = got.at("a").as_tensor().data() + 49;
    const auto before = got.at("b").as_tensor().data()[0];
    *last = ~*last;
    const bool is_shared = got.at("b").as_tensor().data()[0] != before;
    EXPECT_EQ(is_shared, x.data() + 49 == y.data());
    return ticket.metrics().plan;
  };
  EXPECT_EQ(plan(part(0), part(50)), "new");
  EXPECT_EQ(plan(part(50), part(0)), "same");
  EXPECT_EQ(plan(part(0), part(49)), "new");
  EXPECT_EQ(plan(part(0), part(50)), "new");
}

namespace places {

using stage::Move;
using stage::Places;

struct PlacesTest : testing::Test {
  Tensor memory = Tensor::zeros(DType::u8, {1000});
  std::byte* at(int i) { return memory.data() + i; }
  Tensor tensor(int begin, int count, int stride = 1) {
    return Tensor(memory.storage(), DType::u8, {count}, {stride},
                  static_cast<std::uint64_t>(begin));
  }
  Places places_of(const std::vector<Tensor>& tensors) {
    std::vector<const Tensor*> pointers;
    for (const auto& t : tensors) pointers.push_back(&t);
    return Places(pointers, value::find_extents(pointers));
  }
};

TEST_F(PlacesTest, TouchingIsApart) {
  auto places = places_of({tensor(0, 10), tensor(100, 10), tensor(200, 10)});
  const auto moved = places.move(std::vector<Move>{{1, at(190)}});
  ASSERT_TRUE(moved);
  ASSERT_EQ(moved->size(), 1U);
  EXPECT_EQ(moved->front().by_nbytes, 90);
  EXPECT_EQ(moved->front().nbytes, 10U);
  EXPECT_EQ(places.address(1), at(190));
  EXPECT_TRUE(places.move(std::vector<Move>{{1, at(10)}}));
}

TEST_F(PlacesTest, AByteInCommonIsNot) {
  auto places = places_of({tensor(0, 10), tensor(100, 10), tensor(200, 10)});
  EXPECT_FALSE(places.move(std::vector<Move>{{1, at(191)}}));
  EXPECT_FALSE(places.move(std::vector<Move>{{1, at(9)}}));
  EXPECT_FALSE(places.move(std::vector<Move>{{0, at(300)}, {1, at(309)}}));
  EXPECT_EQ(places.address(0), at(0));
  EXPECT_EQ(places.address(1), at(100));
}

TEST_F(PlacesTest, PlacesMayBeExchanged) {
  auto places = places_of({tensor(0, 10), tensor(100, 20)});
  EXPECT_TRUE(places.move(std::vector<Move>{{0, at(100)}, {1, at(0)}}));
  EXPECT_FALSE(places.move(std::vector<Move>{{0, at(10)}}));
}

TEST_F(PlacesTest, SharedBytesStay) {
  auto places = places_of({tensor(0, 10), tensor(5, 10), tensor(100, 1)});
  EXPECT_FALSE(places.move(std::vector<Move>{{0, at(300)}}));
  EXPECT_FALSE(places.move(std::vector<Move>{{0, at(300)}, {1, at(305)}}));
  EXPECT_TRUE(places.move(std::vector<Move>{{2, at(15)}}));
}

TEST_F(PlacesTest, AStridedTensorTakesItsWholeSpan) {
  auto places = places_of({tensor(0, 10, 10), tensor(500, 1), tensor(600, 0)});
  EXPECT_FALSE(places.move(std::vector<Move>{{1, at(90)}}));
  EXPECT_FALSE(places.move(std::vector<Move>{{1, at(5)}}));
  EXPECT_TRUE(places.move(std::vector<Move>{{1, at(91)}}));
  EXPECT_TRUE(places.move(std::vector<Move>{{2, at(50)}}));  // no bytes
  EXPECT_TRUE(places.move(std::vector<Move>{{0, at(100)}}));
}

}  // namespace places

}  // namespace
}  // namespace understudy
