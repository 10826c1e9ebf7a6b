// States that lie on several ranks, saved by all and read by one process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "checkpointer/commit_for_all.h"
#include "checkpointer/rank_index.h"
#include "checkpointer/sources.h"
#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "fakes/thread_peers.h"
#include "ranks/placements.h"
#include "ranks/ranges.h"
#include "ranks/state_parts.h"
#include "restore/load_shards.h"
#include "store/verify.h"
#include "understudy/chunk.h"

namespace understudy {
namespace {

using fakes::MeetingPlace;
using ranks::Random;

// Saves the state of each rank as step 7.
void save(const fakes::TemporaryFolder& folder, const std::vector<Value>& states) {
  MeetingPlace place(static_cast<int>(states.size()));
  place.run([&](Peers& peers) {
    const auto parts = ranks::split_state(states[static_cast<std::size_t>(peers.rank())]);
    const ranks::Exchanger exchanger(peers, std::chrono::seconds(600));
    const ranks::Topic topic{Peers::Lane::calls, 1, "outlines", 7};
    std::vector<ranks::Outline> outlines;
    const auto texts = exchanger.require_all(
        topic, exchanger.ask(topic, ranks::encode_outline(ranks::outline_of(parts))));
    for (const auto& text : texts) outlines.push_back(ranks::decode_outline(text, 0));
    const auto assignment = ranks::assign(outlines);
    const auto shard = ranks::shard_of(parts, assignment, peers.rank());
    const RankPart part{
        [&] { return std::make_unique<StateSource>(shard, header_metadata({})); },
        adds_to_index(assignment, peers.rank()) ? ranks::encode_skeleton(parts.skeleton) : ""};
    const CommitForAll commit(peers, std::chrono::seconds(600));
    store::Writer writer({.threads = 1});
    if (peers.rank() > 0) {
      commit.follow({7, 1}, os::Directory::open(folder.path()), part, writer);
      return;
    }
    const auto lock = store::lock_folder(folder.path());
    commit.lead({7, 1}, *lock, part, writer, {{}, "null", [&](const auto& additions) {
                                                return index_of_all(assignment, additions);
                                              }});
  });
}

Value load(const fakes::TemporaryFolder& folder, std::vector<std::string> names = {}) {
  return load_file(folder / "step-7", {.names = std::move(names)});
}

Tensor part_of(const Tensor& tensor, const ranks::Chunk& chunk) {
  return ranks::view_of(tensor, ranks::whole(tensor.shape()), chunk);
}

Value chunk_leaf(const Tensor& tensor, const ranks::Chunk& chunk_) {
  return chunk(part_of(tensor, chunk_), {tensor.shape(), chunk_.offsets});
}

// DDP: the state of all is the same, with ties, views, blobs and scalars.
TEST(RanksState, OfReplicasComesBackAsItWas) {
  fakes::TemporaryFolder folder;
  const auto state = Value::dict({{"training", fakes::training_state(3)},
                                  {"text", std::string(5'000, 'x')},
                                  {"list", Value::list({1, Tensor::zeros(DType::u8, {3})})}});
  save(folder, std::vector(3, state));
  const auto loaded = load(folder);
  EXPECT_EQ(fakes::fingerprint(loaded), fakes::fingerprint(state));
  const auto& model = loaded.at("training").at("model");
  EXPECT_EQ(model.at("embed.weight").as_tensor().data(),
            model.at("head.weight").as_tensor().data());
  // Each byte is there once, and every rank has written some.
  std::uint64_t nbytes = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const store::ShardReader shard(folder.path() / "step-7" / store::shard_name(rank, 3));
    EXPECT_GT(shard.header().data_nbytes, 0u) << rank;
    nbytes += shard.header().data_nbytes;
  }
  EXPECT_LT(nbytes, 100'000u + 90'000u);
}

TEST(RanksState, CutInAnyWayComesTogether) {
  Random random(51);
  for (int i = 0; i < 60; ++i) {
    fakes::TemporaryFolder folder(fakes::memory_folder());
    const auto shape = ranks::random_shape(random);
    const auto placement = ranks::random_mesh(shape, random);
    const auto tensor = fakes::counting(DType::i64, shape, i);
    const auto plain = fakes::counting(DType::bf16, {5, 3}, i);
    std::vector<Value> states;
    for (const auto& part : placement) {
      states.push_back(Value::dict({{"model", Value::dict({{"w", chunk_leaf(tensor, part)}})},
                                    {"plain", plain},
                                    {"step", i}}));
    }
    save(folder, states);
    const auto whole =
        Value::dict({{"model", Value::dict({{"w", tensor}})}, {"plain", plain}, {"step", i}});
    EXPECT_EQ(fakes::fingerprint(load(folder)), fakes::fingerprint(whole));
  }
}

// Pipeline stages: each rank has paths that no other has.
TEST(RanksState, WithOtherPathsOnOtherRanksIsOneTree) {
  fakes::TemporaryFolder folder;
  const auto shared = fakes::counting(DType::f32, {4}, 1);
  std::vector<Value> states;
  Value::Pairs stages;
  for (int rank = 0; rank < 3; ++rank) {
    const auto name = "stage" + std::to_string(rank);
    const Value stage = Value::dict({{"w", fakes::counting(DType::f32, {9}, rank)}, {"id", rank}});
    states.push_back(Value::dict({{"model", Value::dict({{name, stage}})}, {"shared", shared}}));
    stages.emplace_back(name, stage);
  }
  save(folder, states);
  const auto all = Value::dict({{"model", Value::dict(std::move(stages))}, {"shared", shared}});
  EXPECT_EQ(fakes::fingerprint(load(folder)), fakes::fingerprint(all));
}

TEST(RanksState, IsReadInPart) {
  fakes::TemporaryFolder folder;
  const auto state = Value::dict({{"a", Value::dict({{"x", fakes::counting(DType::u8, {9}, 1)}})},
                                  {"b", fakes::counting(DType::u8, {9}, 2)}});
  save(folder, std::vector(2, state));
  EXPECT_EQ(fakes::fingerprint(load(folder, {"a"})),
            fakes::fingerprint(Value::dict({{"a", state.at("a")}})));
  fakes::expect_error(ErrorCode::not_found, "nothing named 'c'", [&] { load(folder, {"c"}); });
}

// A flipped bit anywhere in any file of the step is found.
TEST(RanksState, DamageInAnyFileIsFound) {
  fakes::TemporaryFolder folder;
  const auto tensor = fakes::counting(DType::f32, {4, 2}, 1);
  save(folder, {Value::dict({{"w", chunk_leaf(tensor, {{0, 0}, {2, 2}})}}),
                Value::dict({{"w", chunk_leaf(tensor, {{2, 0}, {2, 2}})}})});
  for (const auto* name : {"index.json", "checkpoint.json", "shard-00000-of-00002.safetensors",
                           "shard-00001-of-00002.safetensors"}) {
    const auto path = folder.path() / "step-7" / name;
    const auto whole = fakes::read_text(path);
    for (std::size_t at = 0; at < whole.size(); at += 1 + whole.size() / 40) {
      auto damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 4);
      fakes::write_text(path, damaged);
      EXPECT_THROW(load(folder), Error) << name << " at " << at;
      EXPECT_FALSE(store::verify_step(folder.path() / "step-7").damage.empty())
          << name << " at " << at;
    }
    fakes::write_text(path, whole);
  }
  EXPECT_EQ(fakes::fingerprint(load(folder)), fakes::fingerprint(Value::dict({{"w", tensor}})));
}

// Rows of a tensor under two names, each on two of five ranks; the fifth has none.
TEST(RanksState, TiedChunksAreWrittenOnceAndAreOneAgain) {
  fakes::TemporaryFolder folder;
  const auto w = fakes::counting(DType::f32, {2, 3'000}, 1);
  std::vector<Value> states;
  for (const int row : {0, 0, 1, 1, 2}) {
    const ranks::Chunk chunk{{row, 0}, {row < 2 ? 1 : 0, 3'000}};
    const auto part = row < 2 ? part_of(w, chunk) : Tensor::zeros(DType::f32, {0, 3'000});
    const auto leaf = understudy::chunk(part, {{2, 3'000}, chunk.offsets});
    states.push_back(Value::dict({{"a", leaf}, {"b", leaf}}));
  }
  save(folder, states);
  const auto loaded = load(folder);
  EXPECT_EQ(fakes::fingerprint(loaded), fakes::fingerprint(Value::dict({{"a", w}, {"b", w}})));
  EXPECT_EQ(loaded.at("a").as_tensor().data(), loaded.at("b").as_tensor().data());
  std::uint64_t nbytes = 0;
  for (int rank = 0; rank < 5; ++rank) {
    const store::ShardReader shard(folder.path() / "step-7" / store::shard_name(rank, 5));
    nbytes += shard.header().data_nbytes;
  }
  EXPECT_LT(nbytes, w.nbytes() + 2 * 4096);
}

// Only one rank has them in one place: they are two tensors.
TEST(RanksState, ChunksThatAreTiedOnOneRankOnlyComeBackApart) {
  fakes::TemporaryFolder folder;
  const auto a = fakes::counting(DType::f32, {2, 8}, 1);
  auto b = fakes::counting(DType::f32, {2, 8}, 2);
  std::memcpy(b.data(), a.data(), 32);  // the first row
  const ranks::Chunk first{{0, 0}, {1, 8}}, second{{1, 0}, {1, 8}};
  save(folder, {Value::dict({{"a", chunk_leaf(a, first)}, {"b", chunk_leaf(a, first)}}),
                Value::dict({{"a", chunk_leaf(a, second)}, {"b", chunk_leaf(b, second)}})});
  const auto loaded = load(folder);
  EXPECT_EQ(fakes::fingerprint(loaded), fakes::fingerprint(Value::dict({{"a", a}, {"b", b}})));
  EXPECT_NE(loaded.at("a").as_tensor().data(), loaded.at("b").as_tensor().data());
}

TEST(RanksState, ReplicasWithOtherTiesAreRefused) {
  const auto w = fakes::counting(DType::f32, {4}, 1);
  const auto tied = ranks::outline_of(ranks::split_state(Value::dict({{"a", w}, {"b", w}})));
  const auto apart = ranks::outline_of(
      ranks::split_state(Value::dict({{"a", w}, {"b", fakes::counting(DType::f32, {4}, 1)}})));
  fakes::expect_error(ErrorCode::invalid,
                      "the bytes of 'b' are shared with 'a' on rank 0 and by itself on rank 1",
                      [&] {
                        ranks::assign(std::vector{tied, apart});
                      });
}

TEST(RanksState, AChunkBeyondItsTensorIsRefusedByPath) {
  const auto leaf = chunk(Tensor::zeros(DType::f32, {3}), {{4}, {2}});
  fakes::expect_error(ErrorCode::invalid, "the chunk at 'm.w' does not lie in its tensor", [&] {
    ranks::split_state(Value::dict({{"m", Value::dict({{"w", leaf}})}}));
  });
}

}  // namespace
}  // namespace understudy
