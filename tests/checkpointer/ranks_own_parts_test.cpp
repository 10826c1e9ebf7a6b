// Parts that each rank keeps for itself: all are in the step, and each rank resumes its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "fakes/ranks_run.h"
#include "fakes/states.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::failures_of;
using fakes::fingerprint;
using fakes::MeetingPlace;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

const std::vector<std::string> kOwn{"loader", "rng"};

// With other values for other seeds; 0 is what a resume finds.
Value state_of(int rank, int seed) {
  // Of another form on each rank.
  Value::Items seen(static_cast<std::size_t>(rank + 1), Value(seed * 100 + rank));
  return Value::dict({{"w", counting(DType::f32, {30}, seed)},
                      {"loader", Value::dict({{"seen", Value::list(std::move(seen))}})},
                      {"rng", counting(DType::u8, {50}, seed * 10 + rank)},
                      {"step", seed}});
}

Value form_of(int rank) {
  auto state = state_of(rank, 0);
  std::memset(state.at("rng").as_tensor().data(), 0, 50);
  return state;
}

void save(const fakes::TemporaryFolder& folder, int count, int step) {
  MeetingPlace place(count);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    checkpointer.save(step, state_of(peers.rank(), step), {.per_rank = kOwn}).wait();
    checkpointer.close();
  });
}

TEST(RanksOwnParts, EachRankResumesItsOwn) {
  fakes::TemporaryFolder folder;
  save(folder, 3, 4);
  MeetingPlace place(3);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    for (const auto& names :
         std::vector<std::vector<std::string>>{kOwn, {}}) {  // what was saved so is known
      auto state = form_of(peers.rank());
      EXPECT_EQ(checkpointer.resume(state, {.per_rank = names}), 4);
      EXPECT_EQ(fingerprint(state), fingerprint(state_of(peers.rank(), 4)));
    }
  });
}

TEST(RanksOwnParts, AllOfThemAreInTheStep) {
  fakes::TemporaryFolder folder;
  save(folder, 2, 4);
  const auto first = state_of(0, 4), second = state_of(1, 4);
  const auto wanted =
      Value::dict({{"w", first.at("w")},
                   {"loader", Value::dict({{0, first.at("loader")}, {1, second.at("loader")}})},
                   {"rng", Value::dict({{0, first.at("rng")}, {1, second.at("rng")}})},
                   {"step", 4}});
  EXPECT_EQ(fingerprint(load_file(folder / "step-4")), fingerprint(wanted));
  EXPECT_EQ(fingerprint(load_file(folder / "step-4", {.names = {"rng.1"}}).at("rng")),
            fingerprint(Value::dict({{1, second.at("rng")}})));
}

TEST(RanksOwnParts, OfAnotherNumberOfRanksAreNobodys) {
  fakes::TemporaryFolder folder;
  save(folder, 3, 4);
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    auto state = form_of(peers.rank());
    EXPECT_EQ(checkpointer.resume(state, {.strict = false, .per_rank = kOwn}), 4);
    EXPECT_THAT(checkpointer.resumed()->missing, ElementsAre("loader", "rng"));
    EXPECT_EQ(state.at("step").as_integer(), 4);
    EXPECT_EQ(fingerprint(state.at("loader")), fingerprint(form_of(peers.rank()).at("loader")));
    EXPECT_EQ(fingerprint(state.at("rng")), fingerprint(form_of(peers.rank()).at("rng")));
    checkpointer.resume(state, {.per_rank = kOwn});
  });
  EXPECT_THAT(failures, Each(HasSubstr("is each rank's own, and was saved by 3 ranks, while there "
                                       "are 2 now")));
}

TEST(RanksOwnParts, AreOfADict) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    checkpointer.save(1, Value::list({1}), {.per_rank = kOwn});
  });
  EXPECT_THAT(failures, Each(HasSubstr("'loader' is to be each rank's own, but the state is no")));
}

// All ranks must mean the same parts.
TEST(RanksOwnParts, AreTheSameOnAllRanks) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(fakes::options_of(folder, peers));
    const auto names = peers.rank() == 0 ? kOwn : std::vector<std::string>{"rng"};
    checkpointer.save(1, state_of(peers.rank(), 1), {.per_rank = names});
  });
  EXPECT_THAT(failures, Each(HasSubstr("rank 1 saves step 1 in another way than rank 0")));
}

}  // namespace
}  // namespace understudy
