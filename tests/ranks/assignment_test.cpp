#include "ranks/assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include "fakes/expect_error.h"
#include "ranks/placements.h"

namespace understudy::ranks {
namespace {

constexpr auto kMost = std::numeric_limits<std::int64_t>::max();

// Tensors that are placed on `count` ranks: cut, replicated, or on some ranks only.
std::vector<Outline> random_outlines(int count, Random& random) {
  std::vector<Outline> outlines(static_cast<std::size_t>(count));
  for (auto tensors = 1 + below(random, 12); tensors > 0; --tensors) {
    const auto shape = random_shape(random);
    const auto path = "t" + std::to_string(tensors);
    const auto placement = random_placement(shape, random);
    const auto is_on_some = random() % 4 == 0;
    std::vector<std::vector<Chunk>> chunks(outlines.size());
    for (const auto& chunk : placement) {
      // One rank may have several chunks; replicas go to several ranks.
      for (auto copies = 1 + below(random, 2); copies > 0; --copies) {
        auto& mine = chunks[static_cast<std::size_t>(below(random, count))];
        if (std::ranges::find(mine, chunk) == mine.end()) mine.push_back(chunk);
      }
    }
    for (std::size_t rank = 0; rank < outlines.size(); ++rank) {
      if (is_on_some && chunks[rank].empty()) continue;
      outlines[rank].tensors.push_back({path, DType::f32, shape, chunks[rank]});
    }
  }
  return outlines;
}

bool has(const Outline& outline, const std::string& path, const Chunk& chunk) {
  const auto found = std::ranges::find(outline.tensors, path, &TensorOutline::path);
  return found != outline.tensors.end() &&
         std::ranges::find(found->chunks, chunk) != found->chunks.end();
}

TEST(Assignment, GivesEveryChunkToOneRankThatHasIt) {
  Random random(31);
  for (int i = 0; i < 500; ++i) {
    const auto outlines = random_outlines(1 + static_cast<int>(below(random, 6)), random);
    const auto plan = assign(outlines);
    std::vector<std::uint64_t> nbytes(outlines.size());
    for (const auto& tensor : plan.tensors) {
      std::vector<Chunk> chunks;
      for (const auto& planned : tensor.chunks) {
        chunks.push_back(planned.chunk);
        nbytes[static_cast<std::size_t>(planned.writer)] += planned.nbytes;
        EXPECT_TRUE(std::ranges::binary_search(planned.holders, planned.writer));
        if (is_empty(planned.chunk)) continue;
        EXPECT_EQ(planned.nbytes, static_cast<std::uint64_t>(numel(planned.chunk)) * 4);
        for (const auto rank : planned.holders) {
          EXPECT_TRUE(has(outlines[static_cast<std::size_t>(rank)], tensor.path, planned.chunk));
        }
      }
      EXPECT_FALSE(find_cover_problem(tensor.shape, chunks));
      EXPECT_EQ(std::set<Chunk>(chunks.begin(), chunks.end()).size(), chunks.size());
    }
    EXPECT_EQ(plan.nbytes, nbytes);
  }
}

// The replica that a rank was given last: of the smallest ones the last.
const PlannedChunk* last_replica(const Assignment& plan, int rank) {
  const PlannedChunk* last = nullptr;
  for (const auto& tensor : plan.tensors) {
    for (const auto& planned : tensor.chunks) {
      if (planned.writer != rank || planned.holders.size() < 2) continue;
      if (last == nullptr || planned.nbytes <= last->nbytes) last = &planned;
    }
  }
  return last;
}

// No rank was given a replica while another one that has it had less to write.
TEST(Assignment, SharesReplicasOutByBytes) {
  Random random(32);
  int looked_at = 0;
  for (int i = 0; i < 500; ++i) {
    const auto outlines = random_outlines(2 + static_cast<int>(below(random, 5)), random);
    const auto plan = assign(outlines);
    const auto load = [&](int rank) { return plan.nbytes[static_cast<std::size_t>(rank)]; };
    for (int rank = 0; rank < std::ssize(outlines); ++rank) {
      const auto* given = last_replica(plan, rank);
      if (given == nullptr) continue;
      for (const auto other : given->holders) {
        EXPECT_LE(load(rank), load(other) + given->nbytes);
        ++looked_at;
      }
    }
  }
  EXPECT_GT(looked_at, 1'000);
}

// DDP: all have all. The ranks differ by the largest tensor at most.
TEST(Assignment, OfReplicasOnlyIsBalancedWithinTheLargest) {
  Random random(33);
  for (int i = 0; i < 200; ++i) {
    Outline outline;
    std::uint64_t largest = 0, sum = 0;
    for (auto tensors = 1 + below(random, 60); tensors > 0; --tensors) {
      const Dims shape{1 + below(random, 1'000)};
      outline.tensors.push_back({std::to_string(tensors), DType::u8, shape, {whole(shape)}});
      largest = std::max(largest, static_cast<std::uint64_t>(shape[0]));
      sum += static_cast<std::uint64_t>(shape[0]);
    }
    const std::vector<Outline> outlines(static_cast<std::size_t>(1 + below(random, 9)), outline);
    const auto plan = assign(outlines);
    const auto [least, most] = std::ranges::minmax(plan.nbytes);
    EXPECT_LE(most - least, largest);
    EXPECT_EQ(std::accumulate(plan.nbytes.begin(), plan.nbytes.end(), std::uint64_t{0}), sum);
  }
}

// Whether a rank gets the outlines from the others or has its own at hand makes no difference.
TEST(Assignment, IsTheSameOnEveryRank) {
  Random random(34);
  for (int i = 0; i < 200; ++i) {
    const auto outlines = random_outlines(1 + static_cast<int>(below(random, 6)), random);
    std::vector<Outline> received;
    for (std::size_t rank = 0; rank < outlines.size(); ++rank) {
      received.push_back(decode_outline(encode_outline(outlines[rank]), static_cast<int>(rank)));
    }
    const auto here = assign(outlines), there = assign(received);
    ASSERT_EQ(here.tensors.size(), there.tensors.size());
    for (std::size_t t = 0; t < here.tensors.size(); ++t) {
      const auto& a = here.tensors[t].chunks;
      const auto& b = there.tensors[t].chunks;
      EXPECT_EQ(here.tensors[t].path, there.tensors[t].path);
      ASSERT_EQ(a.size(), b.size());
      for (std::size_t c = 0; c < a.size(); ++c) {
        EXPECT_EQ(a[c].chunk, b[c].chunk);
        EXPECT_EQ(a[c].writer, b[c].writer);
      }
    }
  }
}

TEST(Assignment, OfEqualLoadsTakesTheLowestRank) {
  const Outline outline{{{"a", DType::u8, {8}, {whole({8})}},
                         {"b", DType::u8, {8}, {whole({8})}},
                         {"c", DType::u8, {9}, {whole({9})}}}};
  const auto plan = assign(std::vector(3, outline));
  EXPECT_EQ(plan.tensors[2].chunks[0].writer, 0);  // the largest first
  EXPECT_EQ(plan.tensors[0].chunks[0].writer, 1);
  EXPECT_EQ(plan.tensors[1].chunks[0].writer, 2);
  EXPECT_EQ(plan.nbytes, (std::vector<std::uint64_t>{9, 8, 8}));
}

TEST(Assignment, KeepsTheOrderOfPathsAndWhatOnlyOneRankHas) {
  const Outline first{{{"b", DType::u8, {2}, {whole({2})}}, {"a", DType::u8, {2}, {whole({2})}}}};
  const Outline second{{{"stage", DType::u8, {2}, {whole({2})}}, first.tensors[1]}};
  const auto plan = assign(std::vector{first, second});
  ASSERT_EQ(plan.tensors.size(), 3u);
  EXPECT_EQ(plan.tensors[0].path, "b");
  EXPECT_EQ(plan.tensors[1].path, "a");
  EXPECT_EQ(plan.tensors[2].path, "stage");
  EXPECT_EQ(plan.tensors[2].chunks[0].holders, std::vector{1});
}

TEST(Assignment, WritesEmptyTensorsOnceAndEmptyChunksNever) {
  const Outline first{
      {{"empty", DType::u8, {0, 4}, {whole({0, 4})}}, {"w", DType::u8, {1}, {whole({1})}}}};
  const Outline second{{{"empty", DType::u8, {0, 4}, {}}, {"w", DType::u8, {1}, {{{1}, {0}}}}}};
  const auto plan = assign(std::vector{first, second});
  ASSERT_EQ(plan.tensors[0].chunks.size(), 1u);
  EXPECT_EQ(plan.tensors[0].chunks[0].chunk, whole({0, 4}));
  ASSERT_EQ(plan.tensors[1].chunks.size(), 1u);
  EXPECT_EQ(plan.tensors[1].chunks[0].writer, 0);
}

struct Refused {
  const char* name;
  std::vector<Outline> outlines;
  const char* sentence;
};

void PrintTo(const Refused& refused, std::ostream* out) {
  *out << refused.name;
}

Outline one(DType dtype, Dims shape, std::vector<Chunk> chunks) {
  return {{{"model.w", dtype, std::move(shape), std::move(chunks)}}};
}

class RefusedOutlines : public testing::TestWithParam<Refused> {};

TEST_P(RefusedOutlines, NameThePathAndTheRanks) {
  fakes::expect_error(ErrorCode::invalid, GetParam().sentence,
                      [&] { assign(GetParam().outlines); });
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedOutlines,
    testing::Values(
        Refused{"Overlap",
                {one(DType::f32, {4, 8}, {{{0, 0}, {3, 8}}}),
                 one(DType::f32, {4, 8}, {{{2, 0}, {2, 8}}})},
                "chunks of 'model.w' overlap: [0:3, 0:8] of rank 0 and [2:4, 0:8] of rank 1"},
        Refused{"ReplicaThatDiffers",
                {one(DType::f32, {4}, {whole({4})}), one(DType::f32, {4}, {whole({4})}),
                 one(DType::f32, {4}, {{{0}, {2}}})},
                "overlap: [0:2] of rank 2 and [0:4] of ranks 0 and 1"},
        Refused{"Hole",
                {one(DType::f32, {4, 8}, {{{0, 0}, {2, 8}}}),
                 one(DType::f32, {4, 8}, {{{2, 0}, {1, 8}}})},
                "8 of the 32 elements of 'model.w' are on no rank; what there is of it is on ranks "
                "0 and 1"},
        Refused{"NobodyHasIt",
                {one(DType::f32, {4}, {{{4}, {0}}}), one(DType::f32, {4}, {})},
                "4 of the 4 elements of 'model.w' are on no rank"},
        Refused{"DType",
                {one(DType::f32, {4}, {whole({4})}), one(DType::bf16, {4}, {whole({4})})},
                "'model.w' is float32 on rank 0 and bfloat16 on rank 1"},
        Refused{"Shape",
                {one(DType::f32, {4}, {whole({4})}), one(DType::f32, {4}, {whole({4})}),
                 one(DType::f32, {5}, {whole({5})})},
                "'model.w' has the shape [4] on rank 0 and [5] on rank 2"},
        Refused{
            "Beyond",
            {one(DType::f32, {4}, {whole({4})}), one(DType::f32, {4}, {{{2}, {3}}})},
            "'model.w' has the shape [4], but rank 1 has a chunk beyond it: [3] elements at [2]"},
        Refused{"EndOverflows",
                {one(DType::f32, {4}, {{{kMost}, {kMost}}})},
                "rank 0 has a chunk beyond it"},
        Refused{"OtherDimensions",
                {one(DType::f32, {4}, {{{0, 0}, {4, 1}}})},
                "rank 0 has a chunk beyond it: [4, 1] elements at [0, 0]"},
        Refused{"TooLarge",
                {{}, one(DType::f32, {kMost}, {whole({kMost})})},
                "'model.w' on rank 1 has a shape that no tensor can have"},
        Refused{"Negative",
                {one(DType::f32, {-4}, {})},
                "'model.w' on rank 0 has a shape that no tensor can have: [-4]"},
        Refused{"ChunkTwice",
                {one(DType::f32, {4}, {whole({4}), whole({4})})},
                "rank 0 has the chunk [0:4] of 'model.w' twice"},
        Refused{"PathTwice",
                {{},
                 {{{"model.w", DType::f32, {4}, {whole({4})}},
                   {"model.w", DType::f32, {4}, {whole({4})}}}}},
                "rank 1 has two tensors under the path 'model.w'"},
        Refused{"SumOverflows",
                {{{{"a", DType::u8, {kMost}, {whole({kMost})}},
                   {"b", DType::u8, {kMost}, {whole({kMost})}},
                   {"c", DType::u8, {kMost}, {whole({kMost})}}}}},
                "the tensors up to 'c' overflow 64 bits"}),
    [](const auto& info) { return std::string(info.param.name); });

// 'a' and 'b' are one tensor of two rows, each row on two ranks; rank 4 has no row.
std::vector<Outline> tied_rows() {
  std::vector<Outline> outlines;
  for (const int row : {0, 0, 1, 1, 2}) {
    const Chunk chunk{{row, 0}, {row < 2 ? 1 : 0, 8}};
    outlines.push_back({{{"a", DType::f32, {2, 8}, {chunk}},
                         {"b", DType::f32, {2, 8}, {chunk}, row < 2 ? "a" : ""},
                         {"c", DType::f32, {2, 8}, {chunk}}}});
  }
  return outlines;
}

TEST(Assignment, GivesTiedChunksToOneRank) {
  const auto found = assign(tied_rows());
  const auto &a = found.tensors[0], &b = found.tensors[1], &c = found.tensors[2];
  EXPECT_EQ(b.shares_with, "a");
  for (const std::size_t row : {0, 1}) {
    EXPECT_EQ(b.chunks[row].writer, a.chunks[row].writer);
    EXPECT_NE(c.chunks[row].writer, a.chunks[row].writer);  // 'b' counts for nothing
  }
  EXPECT_EQ(found.nbytes, (std::vector<std::uint64_t>{32, 32, 32, 32, 0}));
}

TEST(Assignment, TakesCutTensorsForTiedOnlyWhereAllSaySo) {
  for (const std::size_t rank : {0, 1, 3}) {
    auto outlines = tied_rows();
    outlines[rank].tensors[1].shares_with.clear();
    const auto found = assign(outlines);
    EXPECT_EQ(found.tensors[1].shares_with, "");
    EXPECT_EQ(found.nbytes[0] + found.nbytes[1] + found.nbytes[2] + found.nbytes[3], 6u * 32);
  }
  // One more rank has the first row of 'b', and not of 'a'.
  auto outlines = tied_rows();
  outlines[4].tensors = {{"b", DType::f32, {2, 8}, {{{0, 0}, {1, 8}}}, "a"}};
  EXPECT_EQ(assign(outlines).tensors[1].shares_with, "");
}

TEST(Assignment, NamesAFewOfManyRanks) {
  std::vector<Outline> outlines(9, one(DType::f32, {4}, {whole({4})}));
  outlines[8] = one(DType::f32, {4}, {{{0}, {1}}});
  fakes::expect_error(ErrorCode::invalid, "[0:4] of ranks 0, 1, 2 and 5 more",
                      [&] { assign(outlines); });
}

}  // namespace
}  // namespace understudy::ranks
