#include "ranks/part_runs.h"

#include <gtest/gtest.h>

#include "ranks/placements.h"
#include "ranks/ranges.h"

namespace understudy::ranks {
namespace {

constexpr std::uint64_t kItem = sizeof(std::int64_t);

// The bytes of a stored chunk pass by in pieces of any length; those of the part end up where the
// wanted chunk has them.
TEST(PartRuns, BringPiecesOfStoredChunksToTheirPlace) {
  Random random(21);
  std::uint64_t several_runs = 0;
  for (int i = 0; i < 800; ++i) {
    const auto shape = random_shape(random);
    const auto stored = written(random_placement(shape, random));
    for (const auto& wanted : random_placement(shape, random)) {
      std::vector<std::int64_t> target(static_cast<std::size_t>(numel(wanted)), -1);
      for (const auto& part : parts_of(wanted, stored)) {
        const auto& chunk = stored[part.stored];
        const auto numbers = numbers_of(chunk, shape);
        const auto bytes = std::as_bytes(std::span(numbers));
        const PartRuns runs(chunk, wanted, part.chunk, kItem);
        several_runs += runs.count() > 1;
        EXPECT_EQ(runs.count() * runs.run_nbytes(),
                  static_cast<std::uint64_t>(numel(part.chunk)) * kItem);
        for (std::size_t at = 0; at < bytes.size();) {
          const auto most = static_cast<std::int64_t>(bytes.size() - at);
          const auto n = static_cast<std::size_t>(1 + below(random, most));
          runs.copy(at, bytes.subspan(at, n), std::as_writable_bytes(std::span(target)).data());
          at += n;
        }
      }
      ASSERT_EQ(target, numbers_of(wanted, shape));
    }
  }
  EXPECT_GT(several_runs, 500u);
}

TEST(PartRuns, AreAsLongAsTheyCanBe) {
  const Chunk rows{{4, 0}, {4, 6}}, more_rows{{2, 0}, {6, 6}}, columns{{0, 3}, {8, 3}};
  EXPECT_EQ(PartRuns(rows, more_rows, rows, kItem).count(), 1u);
  const Chunk corner{{4, 3}, {4, 3}};
  const PartRuns runs(rows, columns, corner, kItem);
  EXPECT_EQ(runs.count(), 4u);
  EXPECT_EQ(runs.run_nbytes(), 3 * kItem);
  EXPECT_EQ(runs.run(1).from, 9 * kItem);
  EXPECT_EQ(runs.run(1).to, 15 * kItem);
  EXPECT_EQ(PartRuns({}, {}, {}, kItem).count(), 1u);  // without dimensions
}

}  // namespace
}  // namespace understudy::ranks
