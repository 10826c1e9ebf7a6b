// Checkpointers of several ranks: what they save together is resumed by any number of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "fakes/ranks_run.h"
#include "fakes/states.h"
#include "fakes/thread_peers.h"
#include "ranks/placements.h"
#include "ranks/ranges.h"
#include "store/commit.h"
#include "store/reader.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::failures_of;
using fakes::MeetingPlace;
using fakes::options_of;
using fakes::PeersFault;
using ranks::Random;
using testing::ElementsAre;
using testing::HasSubstr;

// The state that all ranks have together: two tensors that may be cut, and what is the same on all.
struct Whole {
  Tensor w, v;
  Tensor plain;
  int step = 0;

  static Whole make(const Dims& shape, int seed) {
    return {fakes::counting(DType::i64, shape, seed), fakes::counting(DType::f32, {7, 4}, seed + 1),
            fakes::counting(DType::bf16, {40}, seed + 2), seed};
  }
};

Tensor own_copy(const Tensor& tensor, const ranks::Chunk& part, bool has_values) {
  auto copy = Tensor::zeros(tensor.dtype(), part.sizes);
  if (has_values) ranks::copy_part(tensor, ranks::whole(tensor.shape()), copy, part, part);
  return copy;
}

// A rank's state: memory of its own, with the values of `whole` or with zeros.
Value state_of(const Whole& whole, const ranks::Chunk& w, const ranks::Chunk& v, bool has_values) {
  const auto plain = own_copy(whole.plain, ranks::whole(whole.plain.shape()), has_values);
  return Value::dict(
      {{"model",
        Value::dict(
            {{"w", chunk(own_copy(whole.w, w, has_values), {whole.w.shape(), w.offsets})},
             {"v", chunk(own_copy(whole.v, v, has_values), {whole.v.shape(), v.offsets})}})},
       {"tied", plain},
       {"plain", plain},
       {"step", has_values ? Value(whole.step) : Value(0)},
       {"lr", has_values ? Value(0.5 * whole.step) : Value(0.0)}});
}

struct Cut {
  ranks::Placement w, v;
  int count() const { return static_cast<int>(w.size()); }

  // As many ranks for both tensors.
  static Cut random(const Whole& whole, Random& random) {
    Cut cut{ranks::random_mesh(whole.w.shape(), random), {}};
    const auto count = std::ssize(cut.w);
    for (std::int64_t rank = 0; rank < count; ++rank) {
      cut.v.push_back(ranks::whole(whole.v.shape()));
      if (count % 2 == 0) ranks::cut(cut.v.back(), 1, count / 2, rank / 2);  // each twice
    }
    return cut;
  }
  Value state(const Whole& whole, int rank, bool has_values) const {
    const auto r = static_cast<std::size_t>(rank);
    return state_of(whole, w[r], v[r], has_values);
  }
};

void save_all(const fakes::TemporaryFolder& folder, const Whole& whole, const Cut& cut) {
  MeetingPlace place(cut.count());
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(whole.step, cut.state(whole, peers.rank(), true)).wait();
    checkpointer.close();
  });
}

void expect_resumed(const fakes::TemporaryFolder& folder, const Whole& whole, const Cut& cut) {
  MeetingPlace place(cut.count());
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = cut.state(whole, peers.rank(), false);
    const auto place_before = state.at("model").at("w").as_tensor().data();
    EXPECT_EQ(checkpointer.resume(state), whole.step);
    EXPECT_EQ(fakes::fingerprint(state), fakes::fingerprint(cut.state(whole, peers.rank(), true)));
    EXPECT_EQ(state.at("model").at("w").as_tensor().data(), place_before) << "not in place";
    EXPECT_EQ(state.at("tied").as_tensor().data(), state.at("plain").as_tensor().data());
  });
}

TEST(RanksCheckpointer, AnyPlacementIsResumedInAnyOther) {
  Random random(61);
  for (int i = 0; i < 25; ++i) {
    fakes::TemporaryFolder folder(fakes::memory_folder());
    const auto whole = Whole::make(ranks::random_shape(random), 1 + i);
    save_all(folder, whole, Cut::random(whole, random));
    for (int j = 0; j < 3; ++j) expect_resumed(folder, whole, Cut::random(whole, random));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(RanksCheckpointer, OneProcessAloneSeesWholeTensors) {
  Random random(62);
  fakes::TemporaryFolder folder;
  const auto whole = Whole::make({6, 5}, 3);
  save_all(folder, whole, Cut::random(whole, random));
  Checkpointer alone({.directory = folder.path()});
  EXPECT_THAT(alone.steps(), ElementsAre(3));
  const auto loaded = alone.restore().state;
  EXPECT_EQ(fakes::dense(loaded.at("model").at("w").as_tensor()), fakes::dense(whole.w));
  EXPECT_EQ(fakes::dense(loaded.at("model").at("v").as_tensor()), fakes::dense(whole.v));
  auto state = Value::dict({{"model", Value::dict({{"w", Tensor::zeros(DType::i64, {6, 5})}})}});
  EXPECT_EQ(alone.resume(state, {.strict = false}), 3);
  EXPECT_EQ(fakes::dense(state.at("model").at("w").as_tensor()), fakes::dense(whole.w));
}

// PyTorch's reader looks every entry up, and knows nothing else of us.
TEST(RanksCheckpointer, EachShardSaysWhereItsEntriesLie) {
  fakes::TemporaryFolder folder;
  const auto w = fakes::counting(DType::f32, {4, 6}, 1), z = fakes::counting(DType::c128, {4}, 2);
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    const ranks::Chunk rows{{2 * peers.rank(), 0}, {2, 6}}, half{{2 * peers.rank()}, {2}};
    checkpointer.save(1, Value::dict({{"w", chunk(own_copy(w, rows, true), {{4, 6}, rows.offsets})},
                                      {"z", chunk(own_copy(z, half, true), {{4}, half.offsets})},
                                      {"plain", fakes::counting(DType::u8, {3}, 3)},
                                      {"text", std::string(5000, 't')}}));
    checkpointer.close();
  });
  std::set<std::string> names;
  for (int rank = 0; rank < 2; ++rank) {
    const store::ShardReader shard(folder.path() / "step-1" / store::shard_name(rank, 2));
    const auto* text = shard.header().find_metadata("DCP_SHARDING_INFO");
    ASSERT_NE(text, nullptr);
    EXPECT_EQ(*shard.header().find_metadata("DCP_VERSION"), "1.0");
    const auto info = nlohmann::json::parse(*text);
    EXPECT_EQ(info.size(), shard.header().entries.size());
    for (const auto& entry : shard.header().entries) {
      names.insert(entry.name);
      const Dims offsets = info.at(entry.name).at("saved_offsets");
      EXPECT_EQ(offsets.size(), entry.shape.size()) << entry.name;
      const bool is_cut = entry.name == "w" || entry.name == "z";
      EXPECT_EQ(offsets.at(0), is_cut ? 2 * rank : 0) << entry.name;
    }
  }
  EXPECT_THAT(names, testing::UnorderedElementsAre("w", "z", "plain", "understudy.blob.0"));
  Checkpointer({.directory = folder.path()}).save(2, Value::dict({{"w", w}})).wait();
  const store::ShardReader whole(folder.path() / "step-2" / store::shard_name(0, 1));
  EXPECT_EQ(whole.header().find_metadata("DCP_SHARDING_INFO"), nullptr);
}

TEST(RanksCheckpointer, WhatOneProcessSavedIsResumedByMany) {
  Random random(63);
  for (int i = 0; i < 10; ++i) {
    fakes::TemporaryFolder folder(fakes::memory_folder());
    const auto whole = Whole::make(ranks::random_shape(random), 5);
    Checkpointer alone({.directory = folder.path()});
    auto all = Value::dict({{"model", Value::dict({{"w", whole.w}, {"v", whole.v}})},
                            {"tied", whole.plain},
                            {"plain", whole.plain},
                            {"step", whole.step},
                            {"lr", 0.5 * whole.step}});
    alone.save(5, all).wait();
    expect_resumed(folder, whole, Cut::random(whole, random));
  }
}

TEST(RanksCheckpointer, ExchangesOutlinesOnlyWhenTheyChange) {
  Random random(64);
  fakes::TemporaryFolder folder;
  auto whole = Whole::make({6, 5}, 1);
  const auto cut =
      Cut{ranks::Placement(2, ranks::whole({6, 5})), ranks::Placement(2, ranks::whole({7, 4}))};
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    for (const std::int64_t step : {1, 2, 3}) {
      checkpointer.save(step, cut.state(whole, peers.rank(), true)).wait();
    }
    const auto other = Value::dict({{"w", Tensor::zeros(DType::u8, {9})}});
    checkpointer.save(4, other).wait();
    checkpointer.close();
  });
  const auto topics = place.topics();
  EXPECT_EQ(std::ranges::count(topics, "the outlines of step 1"), 1);
  EXPECT_EQ(std::ranges::count(topics, "the outlines of step 2"), 0);
  EXPECT_EQ(std::ranges::count(topics, "the outlines of step 3"), 0);
  EXPECT_EQ(std::ranges::count(topics, "the outlines of step 4"), 1);
}

TEST(RanksCheckpointer, KeepsStepsAndMetadataAsAlone) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(3);
  place.run([&](Peers& peers) {
    auto options = options_of(folder, peers);
    options.keep = 2;
    Checkpointer checkpointer(options);
    for (const std::int64_t step : {1, 2, 3, 4}) {
      const SaveOptions how{.metadata = Value::dict({{"rank", peers.rank()}})};
      checkpointer.save(step, Value::dict({{"w", fakes::counting(DType::u8, {99}, 1)}}), how);
    }
    checkpointer.close();
  });
  Checkpointer alone({.directory = folder.path()});
  EXPECT_THAT(alone.steps(), ElementsAre(3, 4));
  EXPECT_EQ(alone.restore().metadata.at("rank").as_integer(), 0);
}

TEST(RanksCheckpointer, WhatOneRankCannotSaveIsThrownOnAllAtOnce) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(3);
  const auto failures = failures_of(place, 3, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    Value state = Value::dict({{"w", Tensor::zeros(DType::u8, {4})}});
    const Value bad = Value::dict({{"model", Opaque{"my.Thing", nullptr, nullptr, nullptr}}});
    try {
      checkpointer.save(1, peers.rank() == 1 ? bad : state);
    } catch (const Error&) {
      checkpointer.save(2, state).wait();  // the next one is not put out of step
      EXPECT_THAT(checkpointer.steps(), ElementsAre(2));
      throw;
    }
  });
  EXPECT_THAT(failures[0], HasSubstr("rank 1: the object of type my.Thing at 'model' cannot be"));
  EXPECT_EQ(failures, std::vector<std::string>(3, failures[0]));
}

TEST(RanksCheckpointer, OutlinesThatDoNotFitAreThrownOnAll) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    const Dims shape{4 + peers.rank()};
    checkpointer.save(1, Value::dict({{"w", Tensor::zeros(DType::u8, shape)}}));
  });
  EXPECT_EQ(failures, std::vector<std::string>(
                          2,
                          "'w' has the shape [4] on rank 0 and [5] on rank 1; one path is one "
                          "tensor"));
}

// One rank's target does not fit: none has been changed.
TEST(RanksCheckpointer, AMisfitOnOneRankChangesNothingOnAny) {
  fakes::TemporaryFolder folder;
  MeetingPlace saving(2);
  saving.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(1, Value::dict({{"w", fakes::counting(DType::u8, {4}, 1)}})).wait();
  });
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = Value::dict({{peers.rank() == 1 ? "other" : "w", Tensor::zeros(DType::u8, {4})}});
    const auto before = fakes::fingerprint(state);
    try {
      checkpointer.resume(state);
    } catch (const Error&) {
      EXPECT_EQ(fakes::fingerprint(state), before);
      throw;
    }
  });
  EXPECT_THAT(failures[0], HasSubstr("rank 1: "));
  EXPECT_THAT(failures[0], HasSubstr("does not fit the state given, and nothing was changed"));
  EXPECT_EQ(failures[1], failures[0]);
}

TEST(RanksCheckpointer, DamageOfOneShardIsTheSameErrorOnAllAndChangesNothing) {
  fakes::TemporaryFolder folder;
  Random random(65);
  const auto whole = Whole::make({8, 6}, 2);
  const Cut cut{{{{0, 0}, {4, 6}}, {{4, 0}, {4, 6}}}, ranks::Placement(2, ranks::whole({7, 4}))};
  save_all(folder, whole, cut);
  const auto path = folder.path() / "step-2" / "shard-00001-of-00002.safetensors";
  auto bytes = fakes::read_text(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  fakes::write_text(path, bytes);
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = cut.state(whole, peers.rank(), false);
    const auto before = fakes::fingerprint(state);
    try {
      checkpointer.resume(state);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::corrupt);
      EXPECT_EQ(fakes::fingerprint(state), before);
      throw;
    }
  });
  EXPECT_THAT(failures[0], HasSubstr("shard-00001-of-00002.safetensors is damaged"));
  EXPECT_EQ(failures[1], failures[0]);
}

TEST(RanksCheckpointer, ASaveThatARankMissesFailsForAllAndTheNextOneWorks) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  // Exchange 1 of save 1: rank 1's word on its shard.
  place.plan({PeersFault::Type::cut_off, 1, Peers::Lane::saves, 3 * 1 + 1});
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    const auto state = Value::dict({{"w", fakes::counting(DType::u8, {4}, 1)}});
    const auto ticket = checkpointer.save(1, state);
    EXPECT_THROW(ticket.wait(), Error);
    checkpointer.save(2, state).wait();
    checkpointer.close();
    EXPECT_THAT(checkpointer.steps(), ElementsAre(2));
  });
  EXPECT_EQ(place.reached(), 1);
}

TEST(RanksCheckpointer, AChunkNeedsOtherRanks) {
  fakes::TemporaryFolder folder;
  Checkpointer alone({.directory = folder.path()});
  const auto state = Value::dict({{"w", chunk(Tensor::zeros(DType::u8, {2}), {{4}, {0}})}});
  try {
    alone.save(1, state).wait();
    FAIL() << "a chunk was saved as if it were all";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_THAT(error.what(), HasSubstr("the tensor at 'w' is a chunk of a larger one"));
  }
}

}  // namespace
}  // namespace understudy
