#include "value/extents.h"

#include <gtest/gtest.h>

#include <vector>

#include "fakes/expect_error.h"

namespace understudy::value {
namespace {

class ExtentsTest : public ::testing::Test {
 protected:
  Tensor view(Dims shape, Dims strides, std::int64_t offset = 0, DType dtype = DType::f32) {
    auto* at = reinterpret_cast<std::byte*>(memory_.data()) +
               offset * static_cast<std::int64_t>(item_size(dtype));
    return Tensor::borrow(at, dtype, std::move(shape), std::move(strides));
  }

  static Extents find(const std::vector<Tensor>& tensors) {
    std::vector<const Tensor*> pointers;
    for (const auto& t : tensors) pointers.push_back(&t);
    return find_extents(pointers);
  }

  std::vector<float> memory_ = std::vector<float>(10000);
};

TEST_F(ExtentsTest, DenseTensorCoversItsExtent) {
  const auto e = find({view({10, 20}, {})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 800u);
  EXPECT_EQ(e.extents[0].alignment, 4u);
  EXPECT_FALSE(e.extents[0].has_gaps);
  EXPECT_TRUE(e.placements[0].covers);
}

TEST_F(ExtentsTest, NeighboursInOneStorageAreApart) {
  const auto e = find({view({10}, {}, 10), view({10}, {}, 0)});
  ASSERT_EQ(e.extents.size(), 2u);
  // In the order of appearance, not of addresses.
  EXPECT_EQ(e.placements[0].extent, 0u);
  EXPECT_EQ(e.placements[1].extent, 1u);
}

TEST_F(ExtentsTest, TransposedIsDenseButNotCovering) {
  const auto e = find({view({20, 10}, {1, 20})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 800u);
  EXPECT_FALSE(e.placements[0].covers);
  EXPECT_EQ(e.placements[0].strides, (Dims{1, 20}));
}

TEST_F(ExtentsTest, TiedAndTransposedShareOneExtent) {
  const auto e = find({view({10, 20}, {}), view({20, 10}, {1, 20}), view({10, 20}, {})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_TRUE(e.placements[0].covers);
  EXPECT_FALSE(e.placements[1].covers);
  EXPECT_TRUE(e.placements[2].covers);
}

TEST_F(ExtentsTest, OverlappingSlicesShareTheirUnion) {
  const auto e = find({view({60}, {}, 0), view({60}, {}, 40)});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 400u);
  EXPECT_EQ(e.placements[1].byte_offset, 160u);
  EXPECT_FALSE(e.extents[0].has_gaps);
}

TEST_F(ExtentsTest, NarrowColumnIsGathered) {
  const auto e = find({view({100, 3}, {100, 1}, 5)});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 1200u);
  EXPECT_TRUE(e.placements[0].covers);
  EXPECT_EQ(e.placements[0].strides, (Dims{3, 1}));
}

TEST_F(ExtentsTest, WideColumnKeepsItsSpanWithZeroGaps) {
  const auto e = find({view({10, 80}, {100, 1})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, (900 + 80) * 4u);
  EXPECT_TRUE(e.extents[0].has_gaps);
  EXPECT_EQ(e.placements[0].strides, (Dims{100, 1}));
}

TEST_F(ExtentsTest, ColumnsOfOneMatrixAreGatheredApart) {
  const auto e = find({view({100, 3}, {100, 1}, 0), view({100, 3}, {100, 1}, 3)});
  ASSERT_EQ(e.extents.size(), 2u);
  EXPECT_EQ(e.extents[0].nbytes, 1200u);
  EXPECT_EQ(e.extents[1].nbytes, 1200u);
}

TEST_F(ExtentsTest, OverlappingColumnsAreGatheredTogether) {
  const auto e = find({view({100, 4}, {100, 1}, 0), view({100, 4}, {100, 1}, 2)});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 100 * 6 * 4u);
  EXPECT_EQ(e.placements[0].strides, (Dims{6, 1}));
  EXPECT_EQ(e.placements[1].strides, (Dims{6, 1}));
  EXPECT_EQ(e.placements[1].byte_offset, 8u);
}

TEST_F(ExtentsTest, ExpandedCostsItsElementsOnly) {
  const auto e = find({view({1000, 3}, {0, 1})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 12u);
  EXPECT_EQ(e.placements[0].strides, (Dims{0, 1}));
  EXPECT_FALSE(e.placements[0].covers);
}

TEST_F(ExtentsTest, SlidingWindowsAreOneRun) {
  const auto e = find({view({98, 3}, {1, 1})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 400u);
  EXPECT_FALSE(e.extents[0].has_gaps);
}

TEST_F(ExtentsTest, NegativeStridesStartAtTheEnd) {
  const auto e = find({view({10}, {-1}, 9)});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 40u);
  EXPECT_EQ(e.placements[0].byte_offset, 36u);
  EXPECT_EQ(e.placements[0].strides, (Dims{-1}));
}

TEST_F(ExtentsTest, IrregularOverlapIsTakenApartByRuns) {
  // Elements at 3i + 2j: some twice, some never.
  const auto e = find({view({4, 4}, {3, 2})});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].nbytes, 16 * 4u);
  EXPECT_TRUE(e.extents[0].has_gaps);
}

TEST_F(ExtentsTest, IrregularOverlapHasAnEnd) {
  const auto odd = view({3000, 3000, 3000}, {2, 3, 5}, 0, DType::u8);
  fakes::expect_error(ErrorCode::unsupported, "overlap themselves", [&] { find({odd}); });
}

TEST_F(ExtentsTest, WiderViewsKeepTheirAlignment) {
  // Bytes from 2 on, and floats from 4 on, of the same memory.
  const auto e = find({view({10}, {}, 2, DType::u8), view({2}, {}, 1, DType::f32)});
  ASSERT_EQ(e.extents.size(), 1u);
  EXPECT_EQ(e.extents[0].alignment, 4u);
  EXPECT_EQ(e.extents[0].nbytes % 4, 0u);
  EXPECT_EQ(e.placements[1].byte_offset % 4, 0u);
  EXPECT_EQ(e.placements[1].byte_offset - e.placements[0].byte_offset, 2u);
}

TEST_F(ExtentsTest, EmptyTensorsHaveExtentsOfNothing) {
  const auto e = find({view({0, 3}, {}), view({0, 3}, {})});
  ASSERT_EQ(e.extents.size(), 2u);
  EXPECT_EQ(e.extents[0].nbytes, 0u);
  EXPECT_TRUE(e.placements[0].covers);
}

}  // namespace
}  // namespace understudy::value
