#include "ranks/chunk.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "ranks/placements.h"

namespace understudy::ranks {
namespace {

constexpr auto kMost = std::numeric_limits<std::int64_t>::max();

TEST(Chunk, OverlapIsWhatBothHave) {
  EXPECT_EQ(overlap({{0, 0}, {4, 8}}, {{2, 4}, {4, 8}}), (Chunk{{2, 4}, {2, 4}}));
  EXPECT_FALSE(overlap({{0, 0}, {4, 8}}, {{4, 0}, {4, 8}}));  // neighbours
  EXPECT_FALSE(overlap({{0, 0}, {4, 0}}, {{0, 0}, {4, 8}}));  // an empty one
  EXPECT_EQ(overlap({}, {}), Chunk{});                        // both are the one element
}

TEST(Chunk, TextSaysWhereItBeginsAndEnds) {
  EXPECT_EQ(to_text(Chunk{{2, 0}, {2, 8}}), "[2:4, 0:8]");
  EXPECT_EQ(to_text(Chunk{}), "[]");
}

TEST(Chunk, LiesWithinItsTensorOrNot) {
  EXPECT_TRUE(lies_within({{2}, {2}}, {4}));
  EXPECT_TRUE(lies_within({{4}, {0}}, {4}));
  EXPECT_TRUE(lies_within({}, {}));
  EXPECT_FALSE(lies_within({{3}, {2}}, {4}));
  EXPECT_FALSE(lies_within({{5}, {0}}, {4}));
  EXPECT_FALSE(lies_within({{-1}, {2}}, {4}));
  EXPECT_FALSE(lies_within({{1}, {-1}}, {4}));
  EXPECT_FALSE(lies_within({{kMost}, {kMost}}, {4}));  // the end overflows
  EXPECT_FALSE(lies_within({{0, 0}, {1, 1}}, {4}));
  EXPECT_FALSE(lies_within({{0}, {1, 1}}, {4}));
}

TEST(Chunk, SizesThatCannotBeAreNone) {
  EXPECT_EQ(possible_nbytes({4, 8}, DType::f32), 128u);
  EXPECT_EQ(possible_nbytes({}, DType::f64), 8u);
  EXPECT_EQ(possible_nbytes({kMost, 0, kMost}, DType::f64), 0u);
  EXPECT_FALSE(possible_nbytes({-1}, DType::f32));
  EXPECT_FALSE(possible_nbytes({kMost / 4 + 1}, DType::f32));
  EXPECT_FALSE(possible_nbytes({std::int64_t{1} << 32, std::int64_t{1} << 32}, DType::u8));
  EXPECT_FALSE(possible_nbytes(Dims(kMaxDims + 1, 1), DType::u8));
}

// How often each element is in a chunk, the slow way.
std::map<std::int64_t, int> count_elements(const Dims& shape, const std::vector<Chunk>& chunks) {
  std::map<std::int64_t, int> counts;
  for_each_element(whole(shape), [&](const Dims& index) { counts[number_of(index, shape)] = 0; });
  for (const auto& chunk : chunks) {
    for (const auto number : numbers_of(chunk, shape)) ++counts[number];
  }
  return counts;
}

TEST(Cover, WhatIsCutUpAndPutTogetherCovers) {
  Random random(1);
  for (int i = 0; i < 2'000; ++i) {
    const auto shape = random_shape(random);
    auto chunks = written(random_placement(shape, random));
    std::ranges::shuffle(chunks, random);
    EXPECT_FALSE(find_cover_problem(shape, chunks));
  }
}

TEST(Cover, AnyChunksAreJudgedAsByCounting) {
  Random random(2);
  std::map<int, int> seen;  // what came out how often
  for (int i = 0; i < 5'000; ++i) {
    const auto shape = random_shape(random);
    auto chunks = random_placement(shape, random);
    // A chunk is lost, moved, grown or doubled.
    for (auto changes = below(random, 3); changes > 0 && !shape.empty(); --changes) {
      const auto at = static_cast<std::size_t>(below(random, std::ssize(chunks)));
      const auto dim = static_cast<std::size_t>(below(random, std::ssize(shape)));
      auto chunk = chunks[at];
      if (random() % 2 == 0) ++chunk.offsets[dim];
      if (random() % 2 == 0) --chunk.sizes[dim];
      if (lies_within(chunk, shape)) chunks[at] = chunk;
    }
    chunks = random() % 3 == 0 ? chunks : written(chunks);
    const auto counts = count_elements(shape, chunks);
    std::uint64_t holes = 0;
    bool is_twice = false;
    for (const auto& [number, count] : counts) {
      holes += count == 0 ? 1 : 0;
      is_twice = is_twice || count > 1;
    }
    const auto problem = find_cover_problem(shape, chunks);
    ++seen[problem ? static_cast<int>(problem->type) : -1];
    if (is_twice) {
      ASSERT_TRUE(problem);
      ASSERT_EQ(problem->type, CoverProblem::Type::overlap);
      EXPECT_TRUE(overlap(chunks[problem->first], chunks[problem->second]));
      EXPECT_LT(problem->first, problem->second);
    } else if (holes > 0) {
      ASSERT_TRUE(problem);
      ASSERT_EQ(problem->type, CoverProblem::Type::hole);
      EXPECT_EQ(problem->missing, holes);
    } else {
      EXPECT_FALSE(problem);
    }
  }
  EXPECT_GT(seen[-1], 500);
  EXPECT_GT(seen[static_cast<int>(CoverProblem::Type::overlap)], 500);
  EXPECT_GT(seen[static_cast<int>(CoverProblem::Type::hole)], 500);
}

TEST(Cover, WhatNoPlaneDividesIsCompared) {
  // Five chunks around each other: no plane passes between them.
  std::vector<Chunk> pinwheel{
      {{0, 0}, {1, 2}}, {{0, 2}, {2, 1}}, {{2, 1}, {1, 2}}, {{1, 0}, {2, 1}}, {{1, 1}, {1, 1}}};
  EXPECT_FALSE(find_cover_problem({3, 3}, pinwheel));
  pinwheel[4].sizes = {2, 1};
  const auto problem = find_cover_problem({3, 3}, pinwheel);
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->type, CoverProblem::Type::overlap);
  EXPECT_EQ(problem->first, 2u);
  EXPECT_EQ(problem->second, 4u);
}

TEST(Cover, AGridOfManyChunksFallsApart) {
  std::vector<Chunk> grid;
  for (std::int64_t i = 0; i < 40; ++i) {
    for (std::int64_t j = 0; j < 50; ++j) {
      for (std::int64_t k = 0; k < 50; ++k) grid.push_back({{2 * i, 3 * j, k}, {2, 3, 1}});
    }
  }
  Random random(3);
  std::ranges::shuffle(grid, random);
  EXPECT_FALSE(find_cover_problem({80, 150, 50}, grid));
  grid.pop_back();
  EXPECT_EQ(find_cover_problem({80, 150, 50}, grid)->missing, 6u);
}

TEST(Cover, ASpiralThatTakesTooLongIsSaidToBeTangled) {
  // Each turn divides one chunk from the rest: as many turns as chunks.
  std::vector<Chunk> spiral;
  constexpr std::int64_t kSide = 10'000;
  std::int64_t top = 0, left = 0, bottom = kSide, right = kSide;
  while (top < bottom && left < right) {
    spiral.push_back({{top, left}, {1, right - left}});
    if (++top == bottom) break;
    spiral.push_back({{top, right - 1}, {bottom - top, 1}});
    if (--right == left) break;
    spiral.push_back({{bottom - 1, left}, {1, right - left}});
    if (--bottom == top) break;
    spiral.push_back({{top, left}, {bottom - top, 1}});
    ++left;
  }
  const auto problem = find_cover_problem({kSide, kSide}, spiral);
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->type, CoverProblem::Type::tangled);
  spiral.resize(100);
  EXPECT_EQ(find_cover_problem({kSide, kSide}, spiral)->type, CoverProblem::Type::hole);
}

}  // namespace
}  // namespace understudy::ranks
