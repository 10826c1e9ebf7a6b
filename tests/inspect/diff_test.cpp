#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "inspect/compare.h"
#include "inspect/numbers.h"
#include "understudy/inspect.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::TemporaryFolder;
using fakes::training_state;
using inspect::compare;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

auto difference(const std::string& path, const std::string& what) {
  return ::testing::AllOf(Field(&Difference::path, path),
                          Field(&Difference::what, HasSubstr(what)));
}

template <class T>
Tensor tensor_of(DType dtype, std::vector<T> elements) {
  auto t = Tensor::zeros(dtype, {static_cast<std::int64_t>(elements.size())});
  std::memcpy(t.data(), elements.data(), t.nbytes());
  return t;
}

Value state(Value leaf) {
  return Value::dict({{"a", Value::dict({{"x", std::move(leaf)}})}});
}

TEST(DiffTest, TypedValuesAreComparedByTheirFieldsAndToldByTheirNames) {
  const auto typed = [](const char* name, const char* text) {
    return Value::dict({{"text", text}}).with_kind(Value::Kind::typed, Value::tuple({name}));
  };
  const auto date = typed("datetime.date", "2026-01-02"), later = typed("datetime.date", "2027");
  EXPECT_THAT(compare(state(date), state(date)), IsEmpty());
  EXPECT_THAT(
      compare(state(date), state(later)),
      ElementsAre(difference("a.x.text", "'2026-01-02' in the first, '2027' in the second")));
  EXPECT_THAT(compare(state(date), state(1)),
              ElementsAre(difference("a.x", "datetime.date '2026-01-02'")));
  EXPECT_THAT(compare(state(date), state(typed("uuid.UUID", "2026-01-02"))),
              ElementsAre(difference("a.x", "uuid.UUID '2026-01-02' in the second")));
  // As keys.
  const auto keyed = [](const Value& key) { return Value::dict({{key, 1}}); };
  EXPECT_THAT(compare(keyed(date), keyed(date)), IsEmpty());
  EXPECT_THAT(compare(keyed(date), keyed(later)),
              ElementsAre(difference("2026-01-02", "only in the first"),
                          difference("2027", "only in the second")));
}

TEST(Compare, EqualStates) {
  EXPECT_THAT(compare(training_state(3), training_state(3)), IsEmpty());
}

TEST(Compare, Scalars) {
  EXPECT_THAT(compare(state(7), state(8)), ElementsAre(difference("a.x", "7 in the first, 8 in")));
  EXPECT_THAT(compare(state("adam"), state("sgd")), ElementsAre(difference("a.x", "'adam' in")));
  EXPECT_THAT(compare(state(true), state(1)), ElementsAre(difference("a.x", "boolean")));
  EXPECT_THAT(compare(state(Value()), state(false)), ElementsAre(difference("a.x", "none")));
  EXPECT_THAT(compare(state(0.0), state(-0.0)), ElementsAre(difference("a.x", "-0")));
  EXPECT_THAT(compare(state(Value::bytes("ab")), state(Value::bytes("ac"))),
              ElementsAre(difference("a.x", "2 bytes in both")));
}

TEST(Compare, NanEqualsItselfOnly) {
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  const auto other = std::bit_cast<double>(std::bit_cast<std::uint64_t>(nan) | 1);
  EXPECT_THAT(compare(state(nan), state(nan)), IsEmpty());
  EXPECT_THAT(compare(state(nan), state(other)),
              ElementsAre(difference("a.x", "7ff8000000000001")));
  EXPECT_THAT(compare(state(std::complex<double>(0, nan)), state(std::complex<double>(0, nan))),
              IsEmpty());
  EXPECT_THAT(compare(state(tensor_of<double>(DType::f64, {1, nan})),
                      state(tensor_of<double>(DType::f64, {1, nan}))),
              IsEmpty());
  EXPECT_THAT(compare(state(tensor_of<double>(DType::f64, {1, nan})),
                      state(tensor_of<double>(DType::f64, {1, other}))),
              ElementsAre(difference("a.x", "1 of 2 elements differ, the first at [1]")));
}

TEST(Compare, KeysOnOneSide) {
  const auto a = Value::dict({{"both", 1}, {"left", 2}, {1, 3}});
  const auto b = Value::dict({{"right", 2}, {"both", 1}, {"1", 3}});
  EXPECT_THAT(compare(a, b), ElementsAre(difference("left", "only in the first: 2"),
                                         difference("1", "only in the first: 3"),
                                         difference("right", "only in the second: 2"),
                                         difference("1", "only in the second: 3")));
}

TEST(Compare, OrderCountsInOrderedDictsOnly) {
  const auto a = Value::dict({{"x", 1}, {"y", 2}});
  const auto b = Value::dict({{"y", 2}, {"x", 1}});
  EXPECT_THAT(compare(a, b), IsEmpty());
  const auto ordered = [](const Value& v) { return v.with_kind(Value::Kind::ordered_dict); };
  EXPECT_THAT(compare(ordered(a), ordered(b)), ElementsAre(difference("", "another order")));
  EXPECT_THAT(compare(a, ordered(a)), ElementsAre(difference("", "ordered_dict")));
}

TEST(Compare, SetsHaveNoOrder) {
  const auto set = [](Value::Items items) {
    return Value::list(std::move(items)).with_kind(Value::Kind::set);
  };
  EXPECT_THAT(compare(set({"a", "b"}), set({"b", "a"})), IsEmpty());
  EXPECT_THAT(compare(set({Value::tuple({1, 2}), "b"}), set({"b", Value::tuple({1, 2})})),
              IsEmpty());
  EXPECT_THAT(compare(set({"a", "b"}), set({"b", "c"})), ElementsAre(difference("", "2 items")));
  EXPECT_THAT(compare(Value::list({"a", "b"}), Value::list({"b", "a"})),
              ElementsAre(difference("", "2 of 2 items differ, the first at 0: 'a' in")));
}

TEST(Compare, ListsOfScalarsGiveOneDifference) {
  Value::Items a, b;
  for (int i = 0; i < 1000; ++i) {
    a.emplace_back(i);
    b.emplace_back(i < 17 ? i : -i);
  }
  EXPECT_THAT(compare(state(Value::list(a)), state(Value::list(b))),
              ElementsAre(difference("a.x", "983 of 1000 items differ, the first at 17: 17 in")));
  a.pop_back();
  EXPECT_THAT(compare(state(Value::list(a)), state(Value::list(b))),
              ElementsAre(difference("a.x", "999 items in the first, 1000 in the second")));
}

TEST(Compare, ListsOfContainersGoItemByItem) {
  const auto group = [](double lr) { return Value::dict({{"lr", lr}}); };
  EXPECT_THAT(compare(Value::list({group(1), group(2)}), Value::list({group(1), group(3)})),
              ElementsAre(difference("1.lr", "2 in the first, 3 in the second")));
  EXPECT_THAT(compare(Value::list({group(1), group(2)}), Value::list({group(1)})),
              ElementsAre(difference("", "2 items in the first, 1 in the second")));
}

TEST(Compare, KindsAndWhatBelongsToThem) {
  const auto scalar = [](const char* dtype) {
    return Value::bytes("\1\2\3\4").with_kind(Value::Kind::numpy_scalar, dtype);
  };
  EXPECT_THAT(compare(state(scalar("<f4")), state(scalar("<f4"))), IsEmpty());
  EXPECT_THAT(compare(state(scalar("<f4")), state(scalar("<i4"))),
              ElementsAre(difference("a.x.(attributes)", "'<f4' in the first")));
  EXPECT_THAT(compare(Value::list({scalar("<f4")}), Value::list({scalar("<i4")})),
              ElementsAre(difference("", "1 of 1 items differ")));
}

TEST(Compare, ObjectsByTheirPickle) {
  const auto object = [](const char* pickle) {
    return Value(Opaque{"m.T", nullptr, std::make_shared<const std::string>(pickle), nullptr});
  };
  EXPECT_THAT(compare(state(object("p")), state(object("p"))), IsEmpty());
  EXPECT_THAT(compare(state(object("p")), state(object("q"))),
              ElementsAre(difference("a.x", "object of type m.T in both, with other contents")));
}

TEST(Compare, TensorsCountedAndMeasured) {
  const auto a = tensor_of<float>(DType::f32, {1, 2, 3, 4});
  const auto b = tensor_of<float>(DType::f32, {1, 2.5, 3, 2});
  EXPECT_THAT(compare(state(a), state(b)),
              ElementsAre(difference(
                  "a.x", "2 of 4 elements differ, the first at [1]; the largest difference is 2")));
  EXPECT_THAT(compare(state(a), state(counting(DType::f32, {2, 2}, 0))),
              ElementsAre(difference("a.x", "shape [4] in the first, float32 of shape [2, 2]")));
  EXPECT_THAT(compare(state(a), state(tensor_of<std::int32_t>(DType::i32, {1, 2, 3, 4}))),
              ElementsAre(difference("a.x", "int32")));
}

TEST(Compare, TensorsOfNoDimension) {
  const auto one = [](float v) {
    auto t = Tensor::zeros(DType::f32, {});
    std::memcpy(t.data(), &v, sizeof v);
    return state(t);
  };
  EXPECT_THAT(compare(one(1), one(1)), IsEmpty());
  EXPECT_THAT(compare(one(1), one(3)),
              ElementsAre(difference("a.x", "the element differs; the largest difference is 2")));
}

TEST(Compare, IntegersHaveNoDistance) {
  const auto found = compare(state(tensor_of<std::int64_t>(DType::i64, {1})),
                             state(tensor_of<std::int64_t>(DType::i64, {5})));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].what, "1 of 1 elements differ, the first at [0]");
}

TEST(Compare, StridesDoNotCount) {
  const auto dense = counting(DType::i32, {3, 4}, 5);
  auto columns = Tensor::zeros(DType::i32, {4, 3});
  const Tensor transposed(columns.storage(), DType::i32, {3, 4}, {1, 3});
  for (std::int64_t i = 0; i < 12; ++i) {
    std::memcpy(columns.data() + (i % 4 * 3 + i / 4) * 4, dense.data() + i * 4, 4);
  }
  EXPECT_THAT(compare(state(dense), state(transposed)), IsEmpty());
  columns.data()[4 * 4] ^= std::byte{1};  // row 1 of column 1
  EXPECT_THAT(compare(state(dense), state(transposed)),
              ElementsAre(difference("a.x", "1 of 12 elements differ, the first at [1, 1]")));
}

// Longer than a chunk, so that indices go on counting over its end.
TEST(Compare, LargeTensors) {
  auto a = counting(DType::bf16, {1000, 500}, 1);
  auto b = counting(DType::bf16, {1000, 500}, 1);
  EXPECT_THAT(compare(state(a), state(b)), IsEmpty());
  b.data()[2 * (900 * 500 + 7)] ^= std::byte{1};
  b.data()[2 * (999 * 500 + 499)] ^= std::byte{1};
  EXPECT_THAT(compare(state(a), state(b)),
              ElementsAre(difference("a.x", "2 of 500000 elements differ, the first at [900, 7]")));
}

TEST(Compare, ViewsOfFarMoreThanIsStoredAreRefused) {
  const Tensor sliding(Storage::allocate(200'000), DType::f32, {20'000, 20'000}, {1, 1});
  fakes::expect_error(ErrorCode::unsupported, "'a.x' have more than 1073741824 bytes",
                      [&] { compare(state(sliding), state(sliding)); });
}

TEST(Compare, Aliasing) {
  const auto w = counting(DType::f32, {4, 4}, 1);
  const auto copy = counting(DType::f32, {4, 4}, 1);
  const auto tied = Value::dict({{"a", w}, {"b", w}, {"c", copy}});
  const auto untied = Value::dict({{"a", w}, {"b", copy}, {"c", copy}});
  EXPECT_THAT(compare(tied, tied), IsEmpty());
  EXPECT_THAT(
      compare(tied, untied),
      ElementsAre(difference("b", "with 'a' in the first, with none before it in the second"),
                  difference("c", "with none before it in the first, with 'b' in the second")));
}

TEST(Compare, AliasingOfOtherBytes) {
  const auto zeros = Tensor::zeros(DType::f32, {4, 4});
  const auto part = [&](std::uint64_t offset, Dims strides) {
    return Value::dict(
        {{"all", zeros}, {"part", Tensor(zeros.storage(), DType::f32, {2, 2}, strides, offset)}});
  };
  EXPECT_THAT(compare(part(0, {4, 1}), part(0, {4, 1})), IsEmpty());
  EXPECT_THAT(compare(part(0, {4, 1}), part(8, {4, 1})),
              ElementsAre(difference("part", "other bytes of 'all'")));
  EXPECT_THAT(compare(part(0, {4, 1}), part(0, {1, 4})),
              ElementsAre(difference("part", "other bytes of 'all'")));
}

// Every number of the narrow types against values computed by hand.
TEST(Distance, NarrowTypes) {
  const auto of = [](DType dtype, std::uint16_t bits) {
    const std::uint16_t zero = 0;
    return inspect::distance(dtype, reinterpret_cast<const std::byte*>(&bits),
                             reinterpret_cast<const std::byte*>(&zero));
  };
  EXPECT_EQ(of(DType::f16, 0x3c00), 1.0);
  EXPECT_EQ(of(DType::f16, 0xfbff), 65504.0);
  EXPECT_EQ(of(DType::f16, 0x0001), std::ldexp(1.0, -24));
  EXPECT_EQ(of(DType::f16, 0x7c00), std::numeric_limits<double>::infinity());
  EXPECT_EQ(of(DType::f16, 0x7c01), std::nullopt);
  EXPECT_EQ(of(DType::bf16, 0x4049), 3.140625);
  EXPECT_EQ(of(DType::bf16, 0x7fc0), std::nullopt);
  EXPECT_EQ(of(DType::f8_e4m3, 0x7e), 448.0);
  EXPECT_EQ(of(DType::f8_e4m3, 0x7f), std::nullopt);
  EXPECT_EQ(of(DType::f8_e4m3, 0x01), std::ldexp(1.0, -9));
  EXPECT_EQ(of(DType::f8_e5m2, 0x7b), 57344.0);
  EXPECT_EQ(of(DType::f8_e5m2, 0x7d), std::nullopt);
  EXPECT_EQ(of(DType::f8_e4m3fnuz, 0x7f), 240.0);
  EXPECT_EQ(of(DType::f8_e4m3fnuz, 0x80), std::nullopt);
  EXPECT_EQ(of(DType::f8_e5m2fnuz, 0x7f), 57344.0);
  EXPECT_EQ(of(DType::f8_e5m2fnuz, 0x80), std::nullopt);
  EXPECT_EQ(of(DType::f8_e8m0, 0x7f), 1.0 - std::ldexp(1.0, -127));
  EXPECT_EQ(of(DType::f8_e8m0, 0xff), std::nullopt);
  EXPECT_EQ(of(DType::i16, 5), std::nullopt);
}

TEST(Distance, PartsOfComplexNumbers) {
  const float a[2] = {1, 5}, b[2] = {1, 2};
  EXPECT_EQ(inspect::distance(DType::c64, reinterpret_cast<const std::byte*>(a),
                              reinterpret_cast<const std::byte*>(b)),
            3.0);
}

TEST(Diff, FilesAndSteps) {
  const TemporaryFolder folder;
  const auto run = folder.path() / "run";
  Checkpointer ckpt({.directory = run});
  ckpt.save(1, training_state(1)).wait();
  ckpt.save(2, training_state(2)).wait();
  save_file(training_state(1), folder.path() / "one.safetensors");
  EXPECT_THAT(diff(run / "step-1", folder.path() / "one.safetensors"), IsEmpty());
  const auto found = diff(run / "step-1", run);
  EXPECT_THAT(found, ::testing::Contains(difference("optimizer.lr", "0.1 in the first, 0.2")));
  EXPECT_THAT(found, ::testing::Contains(difference("model.bias", "of 70 elements differ")));
  EXPECT_THAT(found, ::testing::Contains(difference("step", "1 in the first, 2 in the second")));
}

}  // namespace
}  // namespace understudy
