// Steps of two ranks stay here for ever: what this build writes must equal them to the last byte,
// but for the manifest, which has the time; and this build must read them.
//
// A new version's step is made by UNDERSTUDY_WRITE_GOLDEN=1 test_checkpointer
// --gtest_filter='GoldenStep.*Writes*', and then looked at.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "fakes/save_by_ranks.h"
#include "fakes/states.h"
#include "understudy/files.h"
#include "understudy/inspect.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::counting;

const fs::path kGolden = fs::path(GOLDEN_FOLDER) / "step-7";
const fs::path kGoldenOfOwn = fs::path(GOLDEN_FOLDER) / "step-8";

// Small, with one of everything that an index has a form for. Never changed.
Value state_of(int rank, int count) {
  const auto cut = [&](const Tensor& t, std::size_t dim) {
    return count == 1 ? Value(t) : fakes::part_of(t, dim, rank, count);
  };
  const auto plain = counting(DType::bf16, {4}, 3);
  Value::Pairs pairs{{"rows", cut(counting(DType::f32, {5, 2}, 1), 0)},
                     {"columns", cut(counting(DType::i64, {2, 3}, 2), 1)},
                     {"plain", plain},
                     {"tied", plain},
                     {"empty", Tensor::zeros(DType::f64, {0, 2})},
                     {"long", std::string(1100, 't')},
                     {"lr", 0.5},
                     {3, Value::tuple({counting(DType::u8, {}, 4), Value()})}};
  // A stage of a pipeline, which one rank has.
  if (rank == 1 || count == 1) {
    pairs.emplace_back("stage.1", Value::dict({{"w", counting(DType::f16, {3}, 5)}}));
  }
  return Value::dict({{"model", Value::dict(std::move(pairs))}});
}

// With parts that are each rank's own, in which each has something else.
Value state_with_own(int rank) {
  return Value::dict({{"w", counting(DType::f32, {4}, 1)},
                      {"rng", Value::dict({{"state", counting(DType::u8, {6}, 10 + rank)},
                                           {"draws", 100 * rank}})},
                      {"seen", Value::list({rank, "of", Value()})},
                      {"step", 8}});
}

void expect_golden(const fs::path& step, const fs::path& golden) {
  if (std::getenv("UNDERSTUDY_WRITE_GOLDEN") != nullptr) {
    fs::create_directories(golden);
    fs::copy(step, golden, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  EXPECT_EQ(fakes::read_text(step / "index.json"), fakes::read_text(golden / "index.json"));
  for (const auto* name :
       {"shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors"}) {
    EXPECT_TRUE(fakes::read_text(step / name) == fakes::read_text(golden / name)) << name;
  }
}

TEST(GoldenStep, ThisBuildWritesTheSameBytes) {
  fakes::TemporaryFolder folder;
  fakes::save_by_ranks(folder, 7, {state_of(0, 2), state_of(1, 2)});
  expect_golden(folder / "step-7", kGolden);
}

TEST(GoldenStep, ThisBuildWritesTheSamePartsOfEachRank) {
  fakes::TemporaryFolder folder;
  fakes::save_by_ranks(folder, 8, {state_with_own(0), state_with_own(1)},
                       {.per_rank = {"rng", "seen"}});
  expect_golden(folder / "step-8", kGoldenOfOwn);
}

TEST(GoldenStep, IsRead) {
  EXPECT_EQ(fakes::fingerprint(load_file(kGolden)), fakes::fingerprint(state_of(0, 1)));
  EXPECT_TRUE(verify(kGolden).is_whole());
}

TEST(GoldenStep, WithPartsOfEachRankIsRead) {
  const auto first = state_with_own(0), second = state_with_own(1);
  const auto wanted =
      Value::dict({{"w", first.at("w")},
                   {"rng", Value::dict({{0, first.at("rng")}, {1, second.at("rng")}})},
                   {"seen", Value::dict({{0, first.at("seen")}, {1, second.at("seen")}})},
                   {"step", 8}});
  EXPECT_EQ(fakes::fingerprint(load_file(kGoldenOfOwn)), fakes::fingerprint(wanted));
  EXPECT_TRUE(verify(kGoldenOfOwn).is_whole());
  // Each rank gets its own.
  fakes::TemporaryFolder folder;
  fs::copy(kGoldenOfOwn, folder / "step-8");
  fakes::MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    auto state =
        Value::dict({{"w", Tensor::zeros(DType::f32, {4})},
                     {"rng", Value::dict({{"state", Tensor::zeros(DType::u8, {6})}, {"draws", 0}})},
                     {"seen", Value::list({9, "", Value()})},
                     {"step", 0}});
    EXPECT_EQ(checkpointer.resume(state), 8);
    EXPECT_EQ(fakes::fingerprint(state), fakes::fingerprint(state_with_own(peers.rank())));
  });
}

TEST(GoldenStep, AFlippedBitInAnyByteOfAnyFileIsFound) {
  fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto step = folder / "step-7";
  fs::copy(kGolden, step);
  for (const auto* name : {"index.json", "checkpoint.json", "shard-00001-of-00002.safetensors"}) {
    const auto whole = fakes::read_text(step / name);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      auto flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
      fakes::write_text(step / name, flipped);
      bool is_found = false;
      try {
        is_found = !verify(step).is_whole();
      } catch (const Error&) {  // no step any more
        is_found = true;
      }
      ASSERT_TRUE(is_found) << name << ", byte " << i;
    }
    fakes::write_text(step / name, whole);
  }
  EXPECT_TRUE(verify(step).is_whole());
}

}  // namespace
}  // namespace understudy
