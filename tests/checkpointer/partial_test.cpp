#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "understudy/checkpointer.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PartialTest : public ::testing::Test {
 protected:
  PartialTest() {
    ckpt_
        .save(1, Value::dict({{"m", Value::dict({{"module.w", w_}, {"module.b", b_}})},
                              {"history", Value::list({1, 2})},
                              {"step", 1}}))
        .wait();
  }

  fakes::TemporaryFolder folder_;
  Checkpointer ckpt_{{.directory = folder_.path()}};
  const Tensor w_ = counting(DType::f32, {4, 3}, 1), b_ = counting(DType::f32, {4}, 2);
  const Tensor mine_ = Tensor::zeros(DType::f32, {4, 3});
};

TEST_F(PartialTest, WhatFitsIsRestoredAndTheRestIsListed) {
  auto state = Value::dict({{"m", Value::dict({{"w", mine_},
                                               {"b", Tensor::zeros(DType::f32, {5})},
                                               {"head", Tensor::zeros(DType::f32, {2})}})},
                            {"step", 0}});
  EXPECT_EQ(ckpt_.resume(state, {.strict = false, .rename_prefixes = {{"module.", ""}}}), 1);
  EXPECT_EQ(fingerprint(Value(mine_)), fingerprint(Value(w_)));
  EXPECT_EQ(state.at("step").as_integer(), 1);
  EXPECT_EQ(state.at("m").pairs().size(), 3u);
  EXPECT_THAT(ckpt_.resumed()->missing, ElementsAre("m.head"));
  EXPECT_THAT(ckpt_.resumed()->unexpected, ElementsAre("history"));
  EXPECT_THAT(ckpt_.resumed()->mismatched, ElementsAre("m.b"));
}

TEST_F(PartialTest, NamesAreThoseOfTheState) {
  auto state = Value::dict({{"net", Value::dict({{"w", mine_}, {"x", 5}})}, {"step", 0}});
  const auto rename = [](const std::string& path) {
    return path == "m.module.w" ? std::string("net.w") : path;
  };
  EXPECT_EQ(ckpt_.resume(state, {.names = {"net.w"}, .rename = rename}), 1);
  EXPECT_EQ(fingerprint(Value(mine_)), fingerprint(Value(w_)));
  EXPECT_EQ(state.at("step").as_integer(), 0);
  EXPECT_EQ(state.at("net").at("x").as_integer(), 5);
  expect_error(ErrorCode::not_found, "named 'nowhere'",
               [&] { ckpt_.resume(state, {.names = {"nowhere"}}); });
}

TEST_F(PartialTest, AnotherDtypeIsConvertedIfAskedFor) {
  const auto wide = Tensor::zeros(DType::f64, {4, 3});
  auto state = Value::dict({{"m", Value::dict({{"module.w", wide}, {"module.b", b_}})},
                            {"history", Value::list({})},
                            {"step", 0}});
  expect_error(ErrorCode::invalid, "convert=True", [&] { ckpt_.resume(state); });
  ckpt_.resume(state, {.convert = true});
  for (std::int64_t i = 0; i < wide.numel(); ++i) {
    float saved = 0;
    double got = 0;
    std::memcpy(&saved, w_.data() + 4 * i, 4);
    std::memcpy(&got, wide.data() + 8 * i, 8);
    EXPECT_EQ(got, static_cast<double>(saved));
  }
  EXPECT_THAT(ckpt_.resumed()->missing, IsEmpty());
}

TEST_F(PartialTest, AMisfitNamesTheRenameThatHelps) {
  auto state = Value::dict(
      {{"m", Value::dict({{"w", mine_}, {"b", b_}})}, {"history", Value::list({})}, {"step", 0}});
  const auto message =
      expect_error(ErrorCode::invalid, "nothing was changed", [&] { ckpt_.resume(state); });
  EXPECT_THAT(message, HasSubstr("rename={'module.': ''}"));
}

}  // namespace
}  // namespace understudy
