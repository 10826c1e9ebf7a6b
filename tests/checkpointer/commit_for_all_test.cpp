// A step is there for all ranks or for none, whatever happens to an exchange.
#include "checkpointer/commit_for_all.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpointer/ranks_folder.h"
#include "fakes/expect_error.h"
#include "fakes/thread_peers.h"

namespace understudy {
namespace {

using fakes::MeetingPlace;
using fakes::PeersFault;
using testing::HasSubstr;

constexpr int kRanks = 3;
constexpr unsigned kOldSeed = 10;
constexpr auto kSaves = Peers::Lane::saves;

// What a save gave to each rank: "saved", or the failure.
using Results = std::vector<std::string>;

Results save_by(MeetingPlace& place, const RanksFolder& run, const RanksFolder::How& how) {
  Results results(kRanks);
  place.run([&](Peers& peers) {
    auto& result = results[static_cast<std::size_t>(peers.rank())];
    try {
      const auto done = run.save(peers, how);
      result = "saved";
      EXPECT_EQ(done.path, run.path() / store::step_name(how.step));
    } catch (const Error& error) {
      result = std::string(to_string(error.code())) + ": " + error.what();
    }
  });
  return results;
}

Results save_by_all(const RanksFolder& run, const RanksFolder::How& how) {
  MeetingPlace place(kRanks);
  return save_by(place, run, how);
}

const Results kSaved(kRanks, "saved");

TEST(CommitForAll, MakesOneStepOfTheShardsOfAll) {
  RanksFolder run(kRanks);
  MeetingPlace place(kRanks);
  EXPECT_EQ(save_by(place, run, {.step = 3, .seed = 5}), kSaved);
  run.expect_step(3, 5);
  EXPECT_THAT(run.names(), testing::ElementsAre("step-3"));
  const auto text = fakes::read_text(run.path() / "step-3" / "checkpoint.json");
  EXPECT_THAT(text, HasSubstr("\"version\": \"1.1\""));
  EXPECT_THAT(text, HasSubstr("\"required_features\": [\"ranks\"]"));
  EXPECT_THAT(text, HasSubstr("\"world_size\": 3"));
  EXPECT_EQ(fakes::read_text(run.path() / "step-3" / "index.json"), "index of 0 1 2");
  EXPECT_THAT(place.topics(), testing::UnorderedElementsAre("the beginning of the save of step 3",
                                                            "the shards of step 3",
                                                            "the outcome of the save of step 3"));
}

TEST(CommitForAll, OfAnExistingStepIsRefusedForAllOrReplacesIt) {
  RanksFolder run(kRanks);
  ASSERT_EQ(save_by_all(run, {.seed = kOldSeed}), kSaved);
  const auto refused = save_by_all(run, {.seed = 20});
  for (const auto& result : refused) {
    EXPECT_THAT(result, testing::StartsWith("invalid: rank 0: step 3 is there already"));
  }
  run.expect_step(3, kOldSeed);
  EXPECT_EQ(save_by_all(run, {.seed = 20, .commit = {.overwrite = true, .keep = {}}}), kSaved);
  run.expect_step(3, 20);
}

TEST(CommitForAll, AppliesRetentionOnce) {
  RanksFolder run(kRanks);
  for (const std::int64_t step : {1, 2, 3}) {
    EXPECT_EQ(save_by_all(run, {.step = step, .commit = {.overwrite = false, .keep = 2}}), kSaved);
  }
  EXPECT_THAT(run.names(), testing::ElementsAre("step-2", "step-3"));
}

// Whoever cannot give its shard: all get its reason, and nothing is left.
TEST(CommitForAll, FailsForAllWithTheReasonOfTheRankThatFailed) {
  for (int failing = 0; failing < kRanks; ++failing) {
    RanksFolder run(kRanks);
    RanksFolder::How how;
    how.before_shard = [&](int rank) {
      if (rank == failing) throw Error(ErrorCode::no_space, "no room for the capture");
    };
    const auto sentence = "no_space: rank " + std::to_string(failing) + ": no room for the capture";
    EXPECT_EQ(save_by_all(run, how), Results(kRanks, sentence));
    EXPECT_TRUE(run.names().empty());
    EXPECT_EQ(save_by_all(run, {}), kSaved);
  }
}

TEST(CommitForAll, OfSeveralThatFailNamesTheFirst) {
  RanksFolder run(kRanks);
  RanksFolder::How how;
  how.before_shard = [](int rank) {
    if (rank > 0) throw std::runtime_error("reason " + std::to_string(rank));
  };
  EXPECT_EQ(save_by_all(run, how), Results(kRanks, "io: rank 1: reason 1"));
}

TEST(CommitForAll, AFolderThatAnotherRankDoesNotSeeIsSaid) {
  RanksFolder run(kRanks), elsewhere(kRanks);
  MeetingPlace place(kRanks);
  Results results(kRanks);
  place.run([&](Peers& peers) {
    try {
      (peers.rank() == 2 ? elsewhere : run).save(peers, {});
    } catch (const Error& error) {
      results[static_cast<std::size_t>(peers.rank())] = error.what();
    }
  });
  EXPECT_THAT(results[0], HasSubstr("rank 2: "));
  EXPECT_THAT(results[0], HasSubstr("all ranks must see one folder"));
  EXPECT_EQ(results, Results(kRanks, results[0]));
  EXPECT_TRUE(run.names().empty());
}

TEST(CommitForAll, RanksThatSaveDifferentStepsFindOut) {
  RanksFolder run(kRanks);
  MeetingPlace place(kRanks);
  std::vector<std::string> results(kRanks);
  place.run([&](Peers& peers) {
    try {
      run.save(peers, {.step = peers.rank() == 1 ? 4 : 3});
    } catch (const Error& error) {
      results[static_cast<std::size_t>(peers.rank())] = error.what();
    }
  });
  EXPECT_THAT(results[0], HasSubstr("rank 1 is at the shards of step 4, while this one, rank 0"));
  EXPECT_THAT(results[1], HasSubstr("rank 0 is at the beginning of the save of step 3"));
  EXPECT_EQ(results[2], results[0]);
  EXPECT_TRUE(run.names().empty());
}

// The index is made by rank 0 after all have written; it may fail as anything else.
TEST(CommitForAll, AnIndexThatCannotBeMadeFailsForAll) {
  RanksFolder run(kRanks);
  MeetingPlace place(kRanks);
  std::vector<std::string> results(kRanks);
  place.run([&](Peers& peers) {
    const CommitForAll commit(peers, std::chrono::seconds(600));
    const RankPart part{[&] { return RanksFolder::shard(1, peers.rank()); }, ""};
    store::Writer writer({.threads = 1});
    try {
      if (peers.rank() > 0) {
        commit.follow({3, 1}, os::Directory::open(run.path()), part, writer);
      } else {
        const auto lock = store::lock_folder(run.path());
        const auto refuse = [](const auto&) -> std::string {
          throw std::runtime_error("no index");
        };
        commit.lead({3, 1}, *lock, part, writer, {{}, "null", refuse});
      }
    } catch (const Error& error) {
      results[static_cast<std::size_t>(peers.rank())] = error.what();
    }
  });
  EXPECT_EQ(results, std::vector<std::string>(kRanks, "rank 0: no index"));
  EXPECT_TRUE(run.names().empty());
}

// --- Every exchange goes wrong on every rank, in every way.

// A message of the save of another step.
std::string message_of_another_step(const std::string&) {
  MeetingPlace place(1);
  std::string message;
  place.plan({PeersFault::Type::changed, 0, kSaves, 0,
              [&](std::string original) { return message = std::move(original); }});
  place.run([](Peers& peers) {
    ranks::Exchanger(peers, std::chrono::seconds(600)).ask({kSaves, 0, "shards", 99}, "");
  });
  return message;
}

struct Wrong {
  PeersFault::Type type;
  int rank;
  std::uint64_t phase;
};

void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << "type " << static_cast<int>(wrong.type) << ", rank " << wrong.rank << ", exchange "
       << wrong.phase;
}

class EveryExchange : public testing::TestWithParam<Wrong> {};

TEST_P(EveryExchange, LeavesTheOldSetOrTheNewSet) {
  const auto [type, rank, phase] = GetParam();
  RanksFolder run(kRanks);
  ASSERT_EQ(save_by_all(run, {.step = 2, .seed = kOldSeed}), kSaved);

  constexpr std::uint64_t kNumber = 7;
  MeetingPlace place(kRanks);
  place.plan({type, rank, kSaves, 3 * kNumber + phase, message_of_another_step});
  const auto results = save_by(place, run, {.step = 3, .seed = 20, .number = kNumber});
  EXPECT_EQ(place.reached(), 1);

  // What rank 0 says is so, and no other rank says the contrary.
  const bool is_there = results[0] == "saved";
  for (const auto& result : results) {
    SCOPED_TRACE(result);
    if (result == "saved") {
      EXPECT_TRUE(is_there);
    } else if (is_there) {
      EXPECT_THAT(result, HasSubstr("may be there, or not"));
    }
  }
  run.expect_step(2, kOldSeed);
  if (is_there) run.expect_step(3, 20);
  EXPECT_EQ(run.names().size(), is_there ? 2u : 1u) << "something is left";

  // The next save is not put out of step.
  EXPECT_EQ(save_by_all(run, {.step = 4, .seed = 30, .number = kNumber + 1}), kSaved);
  run.expect_step(4, 30);
}

std::vector<Wrong> all_wrongs() {
  std::vector<Wrong> all;
  for (const auto type : {PeersFault::Type::fails, PeersFault::Type::late,
                          PeersFault::Type::cut_off, PeersFault::Type::changed}) {
    for (int rank = 0; rank < kRanks; ++rank) {
      for (std::uint64_t phase = 0; phase < 3; ++phase) all.push_back({type, rank, phase});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Of, EveryExchange, testing::ValuesIn(all_wrongs()));

// Both kinds of end were seen: a word that is lost before the rename, and after it.
TEST(EveryExchange, EndsBothWays) {
  RanksFolder run(kRanks);
  MeetingPlace lost_early(kRanks), lost_late(kRanks);
  lost_early.plan({PeersFault::Type::cut_off, 1, kSaves, 3 + 1});
  lost_late.plan({PeersFault::Type::cut_off, 1, kSaves, 3 + 2});
  const auto early = save_by(lost_early, run, {});
  EXPECT_EQ(early[0],
            "timeout: rank 1 did not come within 600 s, or ended; waited for the shards "
            "of step 3");
  EXPECT_EQ(early, Results(kRanks, early[0]));
  const auto late = save_by(lost_late, run, {});
  EXPECT_EQ(late[0], "saved");
  EXPECT_EQ(late[1],
            "timeout: step 3 may be there, or not: rank 0 did not come within 1200 s, or ended; "
            "waited for the outcome of the save of step 3");
  EXPECT_EQ(late[2], "saved");
}

}  // namespace
}  // namespace understudy
