#include "ranks/ranges.h"

#include <gtest/gtest.h>

#include "ranks/placements.h"

namespace understudy::ranks {
namespace {

constexpr std::uint64_t kItem = sizeof(std::int64_t);

// A tensor with the numbers of a chunk's elements, or with zeros; dense, or with gaps in it.
Tensor tensor_of(const Chunk& chunk, const Dims& shape, bool has_numbers, Random& random) {
  auto outer = chunk.sizes;
  const bool has_gaps = random() % 2 == 0;
  if (has_gaps) {
    for (auto& size : outer) size += 1;
  }
  const auto room = Tensor::zeros(DType::i64, outer);
  const Tensor tensor(room.storage(), DType::i64, chunk.sizes, room.strides());
  if (has_numbers) {
    const auto numbers = numbers_of(chunk, shape);
    const auto dense =
        Tensor::borrow(const_cast<std::int64_t*>(numbers.data()), DType::i64, chunk.sizes);
    copy_part(dense, chunk, tensor, chunk, chunk);
  }
  return tensor;
}

std::vector<std::int64_t> elements_of(const Tensor& tensor, const Chunk& chunk) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(numel(chunk)));
  const auto dense = Tensor::borrow(out.data(), DType::i64, chunk.sizes);
  copy_part(tensor, chunk, dense, chunk, chunk);
  return out;
}

// Every element of each target is filled once, by the right element of the source.
TEST(Ranges, AnyTwoPlacementsFillEachOther) {
  Random random(11);
  int parts_in_all = 0;
  for (int i = 0; i < 1'500; ++i) {
    const auto shape = random_shape(random);
    const auto stored = written(random_placement(shape, random));
    std::vector<Tensor> sources;
    for (const auto& chunk : stored) sources.push_back(tensor_of(chunk, shape, true, random));
    for (const auto& wanted : random_placement(shape, random)) {
      const auto target = tensor_of(wanted, shape, false, random);
      std::int64_t filled = 0;
      for (const auto& part : parts_of(wanted, stored)) {
        copy_part(sources[part.stored], stored[part.stored], target, wanted, part.chunk);
        filled += numel(part.chunk);
        ++parts_in_all;
      }
      ASSERT_EQ(filled, numel(wanted));  // with the next line: none is filled twice
      ASSERT_EQ(elements_of(target, wanted), numbers_of(wanted, shape));
    }
  }
  EXPECT_GT(parts_in_all, 5'000);
}

// The bytes at the ranges are those of the part, in its order.
TEST(Ranges, AreTheBytesOfThePart) {
  Random random(12);
  for (int i = 0; i < 3'000; ++i) {
    const auto shape = random_shape(random);
    const auto placement = random_placement(shape, random);
    const auto& chunk = placement[static_cast<std::size_t>(below(random, std::ssize(placement)))];
    for (const auto& wanted : random_placement(shape, random)) {
      const auto part = overlap(chunk, wanted);
      if (!part) continue;
      const auto bytes = numbers_of(chunk, shape);
      const auto ranges = ranges_of(chunk, *part, kItem);
      std::vector<std::int64_t> found;
      std::uint64_t end = 0;
      for (const auto& range : ranges) {
        ASSERT_TRUE(found.empty() || range.begin > end) << "they are in order, and none touches";
        end = range.begin + range.nbytes;
        for (auto at = range.begin; at < end; at += kItem) found.push_back(bytes.at(at / kItem));
      }
      ASSERT_EQ(found, numbers_of(*part, shape));
    }
  }
}

TEST(Ranges, RowsAreOneRunAndColumnsOneARow) {
  const Chunk chunk{{10, 0}, {4, 8}};
  EXPECT_EQ(ranges_of(chunk, {{11, 0}, {2, 8}}, 4), (std::vector<ByteRange>{{32, 64}}));
  EXPECT_EQ(ranges_of(chunk, {{12, 2}, {2, 3}}, 4), (std::vector<ByteRange>{{72, 12}, {104, 12}}));
  EXPECT_EQ(ranges_of(chunk, chunk, 4, 4096), (std::vector<ByteRange>{{4096, 128}}));
  EXPECT_EQ(ranges_of({}, {}, 8, 16), (std::vector<ByteRange>{{16, 8}}));
  EXPECT_TRUE(ranges_of(chunk, {{10, 0}, {0, 8}}, 4).empty());
}

TEST(Ranges, ThatLieCloseTogetherAreOne) {
  const Chunk chunk{{0, 0}, {3, 8}};
  const Chunk part{{0, 2}, {3, 6}};
  EXPECT_EQ(ranges_of(chunk, part, 1), (std::vector<ByteRange>{{2, 6}, {10, 6}, {18, 6}}));
  EXPECT_EQ(ranges_of(chunk, part, 1, 0, 1).size(), 3u);
  EXPECT_EQ(ranges_of(chunk, part, 1, 0, 2), (std::vector<ByteRange>{{2, 22}}));
}

TEST(Ranges, NothingIsWantedOfAnEmptyChunk) {
  const std::vector<Chunk> stored{{{0}, {4}}, {{4}, {4}}};
  EXPECT_TRUE(parts_of({{4}, {0}}, stored).empty());
  EXPECT_EQ(parts_of({{3}, {2}}, stored).size(), 2u);
}

}  // namespace
}  // namespace understudy::ranks
