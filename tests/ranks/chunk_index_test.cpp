#include "ranks/chunk_index.h"

#include <gtest/gtest.h>

#include <functional>

#include "fakes/expect_error.h"
#include "ranks/placements.h"
#include "ranks/ranges.h"

namespace understudy::ranks {
namespace {

// Two ranks: 'w' and 'b' cut in two, a plain tensor, an empty one.
ChunkIndex some_index() {
  std::vector<Outline> outlines(2);
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    outlines[static_cast<std::size_t>(rank)].tensors = {
        {"w", DType::f32, {4, 8}, {{{2 * rank, 0}, {2, 8}}}},
        {"b", DType::u8, {8}, {{{4 * rank}, {4}}}},
        {"c", DType::u8, {1}, {whole({1})}},
        {"empty", DType::u8, {0}, {whole({0})}}};
  }
  return make_chunk_index(assign(outlines), {"shard-0", "shard-1"});
}

TEST(ChunkIndex, SaysWhereEachChunkLies) {
  const auto index = some_index();
  EXPECT_NO_THROW(require_whole(index, "index"));
  ASSERT_EQ(index.tensors.size(), 4u);
  const auto& w = index.tensors[0];
  ASSERT_EQ(w.chunks.size(), 2u);
  EXPECT_EQ(w.chunks[0].file, 0u);
  EXPECT_EQ(w.chunks[1].file, 1u);
  EXPECT_EQ(w.chunks[1].entry, "w");
  EXPECT_EQ(w.chunks[1].chunk, (Chunk{{2, 0}, {2, 8}}));
}

TEST(ChunkIndex, HasOneChunkOfATensorInAFile) {
  const std::vector<Outline> outlines{{{{"b", DType::u8, {8}, {{{0}, {4}}, {{4}, {4}}}}}}};
  fakes::expect_error(ErrorCode::invalid, "rank 0 has two chunks of 'b', and a file takes one",
                      [&] { make_chunk_index(assign(outlines), {"shard-0"}); });
}

// A reader that has only the index finds all that any rank wants.
TEST(ChunkIndex, OfAnyAssignmentIsWhole) {
  Random random(41);
  for (int i = 0; i < 300; ++i) {
    const auto shape = random_shape(random);
    std::vector<Outline> outlines;
    for (const auto& chunk : random_mesh(shape, random)) {
      outlines.push_back({{{"w", DType::u8, shape, {chunk}}}});
    }
    const auto index =
        make_chunk_index(assign(outlines), std::vector<std::string>(outlines.size()));
    EXPECT_NO_THROW(require_whole(index, "index"));
    std::vector<Chunk> stored;
    for (const auto& chunk : index.tensors[0].chunks) stored.push_back(chunk.chunk);
    std::int64_t filled = 0;
    for (const auto& part : parts_of(whole(shape), stored)) filled += numel(part.chunk);
    EXPECT_EQ(filled, numel(whole(shape)));
  }
}

struct Damage {
  const char* name;
  std::function<void(ChunkIndex&)> change;
  const char* sentence;
};

void PrintTo(const Damage& damage, std::ostream* out) {
  *out << damage.name;
}

class DamagedIndex : public testing::TestWithParam<Damage> {};

TEST_P(DamagedIndex, IsRefusedBeforeAnythingIsRead) {
  auto index = some_index();
  GetParam().change(index);
  fakes::expect_error(ErrorCode::corrupt, std::string("step-7/index.json: ") + GetParam().sentence,
                      [&] { require_whole(index, "step-7/index.json"); });
}

INSTANTIATE_TEST_SUITE_P(
    All, DamagedIndex,
    testing::Values(
        Damage{"ChunkIsMissing", [](auto& index) { index.tensors[0].chunks.pop_back(); },
               "16 of the 32 elements of 'w' are in no chunk"},
        Damage{"ChunksOverlap",
               [](auto& index) { index.tensors[0].chunks[1].chunk.offsets[0] = 1; },
               "the chunks [0:2, 0:8] and [1:3, 0:8] of 'w' overlap"},
        Damage{"ChunkBeyond", [](auto& index) { index.tensors[0].chunks[1].chunk.sizes[0] = 3; },
               "a chunk of 'w' lies beyond its shape [4, 8]"},
        Damage{"NoSuchFile", [](auto& index) { index.tensors[0].chunks[1].file = 2; },
               "a chunk of 'w' lies in file 2 of 2"},
        Damage{"EntryTwice", [](auto& index) { index.tensors[1].chunks[0].entry = "w"; },
               "the entry 'w' of shard-0 is there twice"},
        Damage{"PathTwice", [](auto& index) { index.tensors[3].path = "w"; },
               "the path 'w' is there twice"},
        Damage{"ImpossibleShape", [](auto& index) { index.tensors[0].shape[1] = -8; },
               "'w' has a shape that no tensor can have: [4, -8]"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace understudy::ranks
