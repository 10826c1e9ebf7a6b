// Each rank reads, verifies and opens what it needs of a step, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpointer/commit_for_all.h"
#include "checkpointer/rank_index.h"
#include "checkpointer/sources.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/ranks_run.h"
#include "fakes/states.h"
#include "fakes/watched_reads.h"
#include "ranks/placements.h"
#include "ranks/ranges.h"
#include "ranks/state_parts.h"
#include "store/step_files.h"
#include "store/verify.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::expect_error;
using fakes::MeetingPlace;
using fakes::options_of;
using ranks::Chunk;
using ranks::Random;
using testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

// Rank `rank` of `count` has its share of a tensor's rows or columns.
Chunk share(const Dims& shape, std::size_t dim, int count, int rank) {
  auto chunk = ranks::whole(shape);
  ranks::cut(chunk, dim, count, rank);
  return chunk;
}

Value leaf_of(const Tensor& tensor, const Chunk& part, bool has_values) {
  auto own = Tensor::zeros(tensor.dtype(), part.sizes);
  if (has_values) ranks::copy_part(tensor, ranks::whole(tensor.shape()), own, part, part);
  return chunk(own, {tensor.shape(), part.offsets});
}

Value rows_of(const Tensor& tensor, int count, int rank, bool has_values, std::size_t dim = 0) {
  return Value::dict({{"w", leaf_of(tensor, share(tensor.shape(), dim, count, rank), has_values)}});
}

void save_rows(const fakes::TemporaryFolder& folder, const Tensor& tensor, int count) {
  MeetingPlace place(count);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(1, rows_of(tensor, count, peers.rank(), true)).wait();
  });
}

// Bytes that all ranks together read while they resume.
std::uint64_t read_by_all(const fakes::TemporaryFolder& folder, const Tensor& tensor, int count,
                          std::size_t dim = 0) {
  const fakes::WatchedReads reads;
  MeetingPlace place(count);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = rows_of(tensor, count, peers.rank(), false, dim);
    EXPECT_EQ(checkpointer.resume(state), 1);
    EXPECT_EQ(fakes::fingerprint(state),
              fakes::fingerprint(rows_of(tensor, count, peers.rank(), true, dim)));
  });
  return reads.nbytes();
}

// 32 MiB: as in one file, what is overwritten is read once to be verified, and once to be taken.
TEST(RanksRanges, EachRankReadsTheBlocksThatItNeeds) {
  fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto tensor = fakes::counting(DType::f32, {1024, 8192}, 1);
  save_rows(folder, tensor, 4);
  constexpr std::uint64_t kOnce = 32 * kMiB, kSmall = 256 << 10;
  const auto same = read_by_all(folder, tensor, 4);
  EXPECT_GE(same, 2 * kOnce);
  EXPECT_LT(same, 2 * kOnce + kSmall);
  EXPECT_LT(read_by_all(folder, tensor, 2), 2 * kOnce + kSmall);
  EXPECT_LT(read_by_all(folder, tensor, 8), 2 * kOnce + kSmall);
  // Rows that end within blocks: at most two blocks more a rank.
  EXPECT_LT(read_by_all(folder, tensor, 3), 2 * (kOnce + 3 * 2 * 4 * kMiB) + kSmall);
  // Columns lie in all blocks.
  EXPECT_LT(read_by_all(folder, tensor, 2, 1), 2 * 2 * kOnce + kSmall);
}

// Of a step of one file as well, which one process alone reads whole.
TEST(RanksRanges, OfAFileOfOneProcessToo) {
  fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto tensor = fakes::counting(DType::f32, {1024, 8192}, 1);
  {
    Checkpointer alone({.directory = folder.path()});
    alone.save(1, Value::dict({{"w", tensor}})).wait();
  }
  EXPECT_LT(read_by_all(folder, tensor, 4), 64 * kMiB + (256 << 10));
  EXPECT_LT(read_by_all(folder, tensor, 2, 1), 128 * kMiB + (256 << 10));
}

void damage(const std::filesystem::path& path) {
  auto bytes = fakes::read_text(path);
  bytes[200] = static_cast<char>(bytes[200] ^ 1);
  fakes::write_text(path, bytes);
}

// A stage of a pipeline on each rank: the names of one need not the other's file.
TEST(RanksRanges, OnlyShardsThatAreNeededAreOpened) {
  fakes::TemporaryFolder folder;
  const auto stage = [](int rank, int seed) {
    return Value::dict({{"stage" + std::to_string(rank), fakes::counting(DType::f32, {9}, seed)}});
  };
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(1, stage(peers.rank(), 1 + peers.rank())).wait();
  });
  damage(folder.path() / "step-1" / "shard-00001-of-00002.safetensors");
  Checkpointer alone({.directory = folder.path()});
  EXPECT_EQ(fakes::fingerprint(alone.restore({.names = {"stage0"}}).state),
            fakes::fingerprint(stage(0, 1)));
  EXPECT_EQ(fakes::fingerprint(load_file(folder / "step-1", {.names = {"stage0"}})),
            fakes::fingerprint(stage(0, 1)));
  auto state = stage(0, 7);
  EXPECT_EQ(alone.resume(state, {.strict = false}), 1);
  EXPECT_EQ(fakes::fingerprint(state), fakes::fingerprint(stage(0, 1)));
  auto both = Value::dict(
      {{"stage0", Tensor::zeros(DType::f32, {9})}, {"stage1", Tensor::zeros(DType::f32, {9})}});
  EXPECT_EQ(alone.resume(both, {.names = {"stage0"}}), 1);
  expect_error(ErrorCode::corrupt, "shard-00001-of-00002", [&] { alone.resume(both); });
  expect_error(ErrorCode::corrupt, "shard-00001-of-00002", [&] { alone.restore(); });
}

// Chunks that share memory within a rank: with each other, and each element with itself.
TEST(RanksRanges, ChunksThatShareMemoryAreCutAnew) {
  Random random(71);
  for (int i = 0; i < 20; ++i) {
    fakes::TemporaryFolder folder(fakes::memory_folder());
    const int before = 1 + static_cast<int>(random() % 4),
              after = 1 + static_cast<int>(random() % 4);
    const auto w = fakes::counting(DType::f32, {12, 10}, i);
    const Tensor turned(w.storage(), DType::f32, {10, 12}, {1, 10});
    const auto row = fakes::counting(DType::i64, {10}, i);
    const Tensor wide(row.storage(), DType::i64, {12, 10}, {0, 1});
    const auto view = [](const Tensor& t, const Chunk& part) {
      return chunk(ranks::view_of(t, ranks::whole(t.shape()), part), {t.shape(), part.offsets});
    };
    MeetingPlace saving(before);
    saving.run([&](Peers& peers) {
      Checkpointer checkpointer(options_of(folder, peers));
      const auto rows = share({12, 10}, 0, before, peers.rank());
      const auto columns = share({10, 12}, 1, before, peers.rank());
      checkpointer
          .save(1, Value::dict({{"w", view(w, rows)},
                                {"turned", view(turned, columns)},
                                {"wide", view(wide, rows)}}))
          .wait();
    });
    MeetingPlace place(after);
    place.run([&](Peers& peers) {
      Checkpointer checkpointer(options_of(folder, peers));
      const auto part = share({12, 10}, 1, after, peers.rank());
      const auto of_turned = share({10, 12}, 1, after, peers.rank());
      const auto state_of = [&](bool has_values) {
        return Value::dict({{"w", leaf_of(w, part, has_values)},
                            {"turned", leaf_of(turned, of_turned, has_values)},
                            {"wide", leaf_of(wide, part, has_values)}});
      };
      auto state = state_of(false);
      EXPECT_EQ(checkpointer.resume(state), 1);
      EXPECT_EQ(fakes::fingerprint(state), fakes::fingerprint(state_of(true)));
    });
    if (testing::Test::HasFailure()) return;
  }
}

// The digest of the index is right, and what it says of a shard is not.
TEST(RanksRanges, AnIndexThatSaysAnotherTypeThanTheShardIsRefused) {
  const auto tensor = fakes::counting(DType::f32, {4, 2}, 1);
  for (const int count : {1, 2}) {  // a tensor that is whole, and one that is cut
    fakes::TemporaryFolder folder;
    MeetingPlace place(2);
    place.run([&](Peers& peers) {
      const auto parts = ranks::split_state(count == 1 ? Value::dict({{"w", tensor}})
                                                       : rows_of(tensor, 2, peers.rank(), true));
      std::vector<ranks::Outline> outlines(2, ranks::outline_of(parts));
      if (count == 2) {
        outlines = {ranks::outline_of(ranks::split_state(rows_of(tensor, 2, 0, true))),
                    ranks::outline_of(ranks::split_state(rows_of(tensor, 2, 1, true)))};
      }
      const auto assignment = ranks::assign(outlines);
      const auto shard = ranks::shard_of(parts, assignment, peers.rank());
      const RankPart part{
          [&] { return std::make_unique<StateSource>(shard, header_metadata({})); },
          adds_to_index(assignment, peers.rank()) ? ranks::encode_skeleton(parts.skeleton) : ""};
      const CommitForAll commit(peers, std::chrono::seconds(600));
      store::Writer writer({.threads = 1});
      if (peers.rank() > 0) {
        commit.follow({1, 1}, os::Directory::open(folder.path()), part, writer);
        return;
      }
      const auto lock = store::lock_folder(folder.path());
      commit.lead({1, 1}, *lock, part, writer, {{}, "null", [&](const auto& additions) {
                                                  auto text = index_of_all(assignment, additions);
                                                  const auto at = text.find("float32");
                                                  EXPECT_NE(at, text.npos);
                                                  return text.replace(at, 7, "int32");
                                                }});
    });
    const char* const what = "with the type int32 and the shape";
    expect_error(ErrorCode::corrupt, what, [&] { load_file(folder / "step-1"); });
    Checkpointer alone({.directory = folder.path()});
    auto state = Value::dict({{"w", Tensor::zeros(DType::i32, {4, 2})}});
    expect_error(ErrorCode::corrupt, what, [&] { alone.resume(state); });
  }
}

class IndexCheck : public testing::Test {
 protected:
  IndexCheck() { save_rows(folder_, fakes::counting(DType::f32, {4, 2}, 1), 2); }

  std::filesystem::path index() const { return folder_.path() / "step-1" / "index.json"; }
  store::StepFolder look() const { return store::look_at_step(folder_.path() / "step-1"); }

  fakes::TemporaryFolder folder_;
};

TEST_F(IndexCheck, AnIndexThatCannotBeReadIsAFinding) {
  const auto step = look();
  int reads = 0;
  {
    const fakes::FaultyCalls counting({.call = "pread"});
    EXPECT_TRUE(store::verify_step(step).damage.empty());
    reads = counting.count();
  }
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .nth = reads, .error = EIO, .call = "pread"});
  const auto check = store::verify_step(step);
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_EQ(check.damage[0].file, index());
}

// A manifest whose digest is right may claim any size: the file is looked at before memory is.
TEST_F(IndexCheck, NoMemoryIsTakenForASizeThatIsOnlyClaimed) {
  auto step = look();
  step.manifest->index->nbytes = std::uint64_t{1} << 60;
  expect_error(ErrorCode::corrupt, "where the manifest says 1152921504606846976",
               [&] { store::read_index_text(step); });
  const auto check = store::verify_step(step);
  ASSERT_EQ(check.damage.size(), 1u);
  EXPECT_THAT(check.damage[0].what, HasSubstr("where the manifest says 1152921504606846976"));
  // A file of that size, without contents, is more than the machine has.
  std::filesystem::resize_file(index(), std::uint64_t{1} << 40);
  step.manifest->index->nbytes = std::uint64_t{1} << 40;
  expect_error(ErrorCode::no_space, "the index of a step", [&] { store::read_index_text(step); });
  expect_error(ErrorCode::no_space, "the index of a step", [&] { store::verify_step(step); });
}

}  // namespace
}  // namespace understudy
