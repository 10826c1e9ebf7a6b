#include "format/layout.h"

#include <gtest/gtest.h>

#include <set>

#include "fakes/expect_error.h"
#include "fakes/mutations.h"
#include "format/helpers.h"

namespace understudy::format {
namespace {

using testing::counted;
using testing::Metadata;

Layout layout_of(const Value& state, const Metadata& metadata = {{"format", "pt"}}) {
  return make_layout(state, value::find_extents(value::tensors_of(state)), metadata);
}

std::vector<std::string> names_of(const Layout& layout) {
  std::vector<std::string> names;
  for (const auto& entry : layout.entries) names.push_back(entry.name);
  return names;
}

using Names = std::vector<std::string>;

// A state with tensors of any type and size, views, and blobs.
Value random_state(std::uint64_t seed) {
  fakes::Dice dice(seed * 7919 + 1);
  Value::Pairs pairs;
  const auto count = 1 + dice.roll(20);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto dtype = static_cast<DType>(dice.roll(kDTypeCount));
    Dims shape;
    for (auto dims = dice.roll(4); dims > 0; --dims) {
      shape.push_back(static_cast<std::int64_t>(dice.roll(6)));
    }
    const auto tensor = counted(dtype, shape, static_cast<unsigned>(i));
    const auto key = "t" + std::to_string(dice.roll(1000)) + "_" + std::to_string(i);
    pairs.emplace_back(key, tensor);
    if (!shape.empty() && shape.back() > 1 && dice.roll(3) == 0) {
      const auto last = tensor.strides().size() - 1;
      auto cut = shape;
      cut[last] -= 1;
      pairs.emplace_back(key + ".view", Tensor(tensor.storage(), dtype, cut, tensor.strides()));
    }
    if (dice.roll(5) == 0) pairs.emplace_back(key + ".tied", tensor);
    if (dice.roll(5) == 0) pairs.emplace_back(key + ".text", std::string(1025 + dice.roll(9), 'x'));
  }
  return Value::dict(std::move(pairs));
}

TEST(Layout, HasNoHolesAndIsAligned) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto state = random_state(seed);
    const auto extents = value::find_extents(value::tensors_of(state));
    const auto layout = make_layout(state, extents, {{"format", "pt"}});
    EXPECT_EQ(layout.header_nbytes % kAlignment, 0u);
    std::uint64_t next = 0;
    std::set<std::string> names;
    for (const auto& entry : layout.entries) {
      EXPECT_EQ(entry.begin, next);
      next = entry.end;
      EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    }
    EXPECT_EQ(next, layout.data_nbytes);
    for (std::size_t i = 0; i < extents.extents.size(); ++i) {
      EXPECT_EQ(layout.extent_offsets[i] % extents.extents[i].alignment, 0u);
    }
  }
}

TEST(Layout, AnyStateComesBackFromItsFile) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto state = random_state(seed);
    const auto file = testing::write_whole_file(state);
    EXPECT_TRUE(testing::is_same(testing::read_whole_file(file.bytes), state)) << seed;
  }
}

TEST(Layout, IsAPureFunctionOfTheState) {
  EXPECT_EQ(testing::write_whole_file(random_state(5)).bytes,
            testing::write_whole_file(random_state(5)).bytes);
}

TEST(Layout, OrdersByAlignmentThenAppearanceWithBlobsLast) {
  const auto layout = layout_of(Value::dict({{"bytes", counted(DType::u8, {3})},
                                             {"text", std::string(2000, 'x')},
                                             {"half", counted(DType::bf16, {3})},
                                             {"b", counted(DType::f32, {1})},
                                             {"a", counted(DType::f32, {1})},
                                             {"none", counted(DType::f32, {0})},
                                             {"z", counted(DType::c128, {1})},
                                             {"d", counted(DType::f64, {1})}}));
  EXPECT_EQ(names_of(layout),
            (Names{"z", "d", "b", "a", "none", "half", "bytes", "understudy.blob.0"}));
}

TEST(Layout, ADenseTensorIsItsEntry) {
  const auto state = Value::dict({{"model", Value::dict({{"w", counted(DType::f32, {2, 3})}})}});
  const auto layout = layout_of(state);
  ASSERT_EQ(layout.entries.size(), 1u);
  EXPECT_EQ(layout.entries[0].name, "model.w");
  EXPECT_EQ(layout.entries[0].dtype, "F32");
  EXPECT_EQ(layout.entries[0].shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_TRUE(layout.leaves.views[0].is_entry);
}

TEST(Layout, TheFirstOfTiedTensorsNamesTheEntry) {
  const auto w = counted(DType::f32, {2, 3});
  const Tensor flat(w.storage(), DType::f32, {6});
  const Tensor as_bytes(w.storage(), DType::u8, {24});
  const auto layout =
      layout_of(Value::dict({{"b", w}, {"a", w}, {"flat", flat}, {"u8", as_bytes}}));
  EXPECT_EQ(names_of(layout), Names{"b"});
  const auto& views = layout.leaves.views;
  EXPECT_TRUE(views[0].is_entry && views[1].is_entry);
  EXPECT_FALSE(views[2].is_entry || views[3].is_entry);
}

TEST(Layout, WhatIsNotDenseIsRawBytes) {
  const auto w = counted(DType::f32, {2, 3});
  const Tensor transposed(w.storage(), DType::f32, {3, 2}, {1, 3});
  const auto layout = layout_of(Value::dict({{"t", transposed}}));
  EXPECT_EQ(names_of(layout), Names{"understudy.extent.0"});
  EXPECT_EQ(layout.entries[0].dtype, "U8");
  EXPECT_EQ(layout.entries[0].shape, (std::vector<std::uint64_t>{24}));
}

TEST(Layout, TypesThatTheFormatLacksAreNamedInTheTree) {
  const auto layout = layout_of(Value::dict({{"c128", counted(DType::c128, {3})},
                                             {"c32", counted(DType::c32, {})},
                                             {"u4", counted(DType::u4, {5})}}));
  EXPECT_EQ(names_of(layout), (Names{"c128", "c32", "u4"}));
  EXPECT_EQ(layout.entries[0].dtype, "F64");
  EXPECT_EQ(layout.entries[0].shape, (std::vector<std::uint64_t>{3, 2}));
  EXPECT_EQ(layout.entries[1].dtype, "F16");
  EXPECT_EQ(layout.entries[1].shape, (std::vector<std::uint64_t>{2}));
  EXPECT_EQ(layout.entries[2].dtype, "U8");
  for (const auto& view : layout.leaves.views) EXPECT_FALSE(view.is_entry);
}

TEST(Layout, FourBitPairsAreCountedSingly) {
  const auto layout = layout_of(Value::dict(
      {{"m", counted(DType::f4_e2m1_x2, {2, 3})}, {"s", counted(DType::f4_e2m1_x2, {})}}));
  EXPECT_EQ(names_of(layout), (Names{"m", "understudy.extent.1"}));
  EXPECT_EQ(layout.entries[0].dtype, "F4");
  EXPECT_EQ(layout.entries[0].shape, (std::vector<std::uint64_t>{2, 6}));
  EXPECT_EQ(layout.entries[1].dtype, "U8");
  EXPECT_TRUE(layout.leaves.views[0].is_entry);
  EXPECT_FALSE(layout.leaves.views[1].is_entry);
}

TEST(Layout, CollidingNamesAreToldApart) {
  const auto t = [] { return counted(DType::f32, {1}); };
  const auto layout = layout_of(Value::dict({{"a", Value::dict({{"b", t()}, {"b#2", t()}})},
                                             {"a.b", t()},
                                             {1, t()},
                                             {"1", t()},
                                             {"list", Value::list({t()})},
                                             {"list.0", t()}}));
  EXPECT_EQ(names_of(layout), (Names{"a.b", "a.b#2", "a.b#3", "1", "1#2", "list.0", "list.0#2"}));
}

TEST(Layout, ReservedAndEmptyNamesGetOthers) {
  const auto t = [] { return counted(DType::f32, {1}); };
  const auto layout = layout_of(Value::dict({{"", t()},
                                             {"__metadata__", t()},
                                             {"understudy.blob.0", t()},
                                             {"understudy", Value::dict({{"tree", t()}})},
                                             {"text", std::string(2000, 'x')}}));
  EXPECT_EQ(names_of(layout), (Names{"#2", "__metadata__#2", "understudy.blob.0#2",
                                     "understudy.tree#2", "understudy.blob.0"}));
  EXPECT_EQ(names_of(layout_of(Value(t()))), Names{"#2"});
}

TEST(Layout, ManyEqualNamesTakeNoTimeToTellApart) {
  const auto tensor = counted(DType::u8, {0});
  Value::Pairs pairs;
  // All of these have the path "x.x.x".
  for (int i = 0; i < 20'000; ++i) {
    pairs.emplace_back(Value::bytes(std::to_string(i)), tensor);
  }
  const auto names = names_of(layout_of(Value::dict(std::move(pairs))));
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 20'000u);
}

TEST(Layout, TheHeaderHasRoomForTwiceTheTree) {
  const auto state_of = [](std::size_t n) {
    return Value::dict({{"w", counted(DType::f32, {1})}, {"notes", std::string(n, '"')}});
  };
  const auto layout = layout_of(state_of(1000));
  EXPECT_TRUE(fits(layout, encode_tree(state_of(1000), layout.leaves), {{"format", "pt"}}));
  // Twice as long escaped, and some more for rounding.
  EXPECT_TRUE(fits(layout, std::string(4000, '"'), {{"format", "pt"}}));
  EXPECT_FALSE(fits(layout, std::string(6200, '"'), {{"format", "pt"}}));
  EXPECT_FALSE(fits(layout, "null", {{"format", std::string(layout.header_nbytes, 'x')}}));
}

TEST(Layout, FitsSaysExactlyWhatTheWriterTakes) {
  const Metadata metadata{{"format", "pt"}, {"q\"", "\n"}};
  const auto layout = layout_of(testing::every_type(), metadata);
  const std::vector<std::uint64_t> checksums(block_count(layout.data_nbytes));
  std::string digest;
  std::size_t most = 0;
  for (std::size_t n = 0; n < layout.header_nbytes; ++n) {
    if (fits(layout, std::string(n, 'x'), metadata)) most = n;
  }
  const auto write = [&](std::size_t n) {
    return write_sealed_header(layout.entries, metadata, std::string(n, 'x'), checksums,
                               layout.header_nbytes, digest);
  };
  EXPECT_EQ(write(most).back(), std::byte{'}'});
  fakes::expect_error(ErrorCode::invalid, "the layout left", [&] { write(most + 1); });
}

TEST(Layout, AHeaderThatWouldBeTooLongIsRefusedBeforeCapture) {
  Value::Items items(30, Value(std::string(1000, '\x01')));  // 7 bytes each, escaped twice
  fakes::expect_error(ErrorCode::unsupported, "needs a header of",
                      [&] { layout_of(Value::list(Value::Items(200, Value::tuple(items)))); });
  // Half of the limit is taken, although twice the tree would not fit.
  const auto layout = layout_of(Value::list(Value::Items(16'000, Value(std::string(1000, 'x')))));
  EXPECT_LE(layout.header_nbytes - kPrefixNbytes, kMaxWrittenHeaderNbytes);
  EXPECT_EQ(layout.header_nbytes % kAlignment, 0u);
}

TEST(Layout, ReservedMetadataIsRefused) {
  fakes::expect_error(ErrorCode::invalid, "reserved", [] {
    layout_of(Value(), {{"understudy.tree", "x"}});
  });
  fakes::expect_error(ErrorCode::invalid, "twice", [] {
    layout_of(Value(), {{"a", ""}, {"a", ""}});
  });
}

TEST(Layout, ASmallViewOfALargeStorageMakesASmallFile) {
  const auto large = Tensor::zeros(DType::f32, {1000, 1000});
  const Tensor row(large.storage(), DType::f32, {1000}, {1}, 4000);
  EXPECT_EQ(layout_of(Value::dict({{"row", row}})).data_nbytes, 4000u);
}

}  // namespace
}  // namespace understudy::format
