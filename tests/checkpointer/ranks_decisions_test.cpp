// What ranks decide together: which step is read, what is given up, and which saves take place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "checkpointer/commit_for_all.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/gate.h"
#include "fakes/ranks_run.h"
#include "fakes/states.h"
#include "ranks/placements.h"
#include "store/step_files.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::failures_of;
using fakes::fingerprint;
using fakes::Gate;
using fakes::MeetingPlace;
using fakes::options_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A rank's half of a tensor whose values tell the step, and its number, which is on all ranks.
Value half(int rank, int step) {
  auto local = Tensor::zeros(DType::i32, {8});
  const auto whole = fakes::counting(DType::i32, {16}, step);
  std::memcpy(local.data(), whole.data() + rank * 32, 32);
  return Value::dict({{"w", chunk(local, {{16}, {8 * rank}})}, {"step", step}});
}

void save_steps(const fakes::TemporaryFolder& folder, const std::vector<int>& steps) {
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    for (const int step : steps) checkpointer.save(step, half(peers.rank(), step)).wait();
  });
}

void damage_block(const fs::path& path) {
  auto bytes = fakes::read_text(path);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  fakes::write_text(path, bytes);
}

fs::path shard(const fakes::TemporaryFolder& folder, int step, int rank) {
  return folder.path() / ("step-" + std::to_string(step)) /
         ("shard-0000" + std::to_string(rank) + "-of-00002.safetensors");
}

// Rank 1 alone reads the block that is damaged; rank 0 goes back with it.
TEST(RanksPrevious, AllTakeTheStepBeforeTheOneThatIsDamagedOnAny) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1, 2, 3, 4});
  damage_block(shard(folder, 3, 1));
  fs::remove(folder.path() / "step-4" / "checkpoint.json");
  std::vector<std::vector<ResumeReport::Skipped>> skipped(2);
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = half(peers.rank(), 9);
    EXPECT_EQ(checkpointer.resume(state, {.on_damage = OnDamage::previous}), 2);
    EXPECT_EQ(fingerprint(state), fingerprint(half(peers.rank(), 2)));
    skipped[static_cast<std::size_t>(peers.rank())] = checkpointer.resumed()->skipped;
  });
  ASSERT_EQ(skipped[0].size(), 2u);
  EXPECT_EQ(skipped[0][0].step, 4);
  EXPECT_EQ(skipped[0][1].step, 3);
  EXPECT_THAT(skipped[0][1].reason, HasSubstr("rank 1: "));
  EXPECT_THAT(skipped[0][1].reason, HasSubstr("shard-00001-of-00002.safetensors is damaged"));
  ASSERT_EQ(skipped[1].size(), 2u);
  for (const std::size_t i : {0, 1}) EXPECT_EQ(skipped[1][i].reason, skipped[0][i].reason);
}

TEST(RanksPrevious, DamageThatOneRankSeesIsTheSameErrorOnAll) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1, 2});
  damage_block(shard(folder, 1, 1));
  damage_block(shard(folder, 2, 1));
  for (const auto on_damage : {OnDamage::error, OnDamage::previous}) {
    MeetingPlace place(2);
    const auto failures = failures_of(place, 2, [&](Peers& peers) {
      Checkpointer checkpointer(options_of(folder, peers));
      auto state = half(peers.rank(), 9);
      try {
        checkpointer.resume(state, {.on_damage = on_damage});
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::corrupt);
        EXPECT_EQ(fingerprint(state), fingerprint(half(peers.rank(), 9)));
        throw;
      }
    });
    EXPECT_THAT(failures[0], HasSubstr("rank 1: "));
    EXPECT_THAT(failures[0], HasSubstr(on_damage == OnDamage::error ? "step 2 in " : "is whole"));
    EXPECT_EQ(failures[1], failures[0]);
  }
}

TEST(RanksDiscard, RankZeroGivesUpNewerStepsAndAllAreTold) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1, 2, 3});
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(4, half(peers.rank(), 4));  // under way: waited for, and discarded too
    auto state = half(peers.rank(), 9);
    EXPECT_EQ(checkpointer.resume(state, {.step = 2, .discard_newer = true}), 2);
    EXPECT_EQ(fingerprint(state), fingerprint(half(peers.rank(), 2)));
    EXPECT_THAT(checkpointer.resumed()->discarded, ElementsAre(3, 4));
    EXPECT_THAT(checkpointer.steps(), ElementsAre(1, 2));
    checkpointer.save(3, half(peers.rank(), 3)).wait();
    checkpointer.close();
  });
}

TEST(RanksDiscard, NothingIsDiscardedWhereOneRankDoesNotFit) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1, 2});
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = peers.rank() == 1 ? Value::dict({{"other", 1}}) : half(0, 9);
    checkpointer.resume(state, {.step = 1, .discard_newer = true});
  });
  EXPECT_THAT(failures[0], HasSubstr("rank 1: "));
  EXPECT_EQ(failures[1], failures[0]);
  EXPECT_TRUE(fs::exists(folder.path() / "step-2"));
}

// What cannot be discarded is an error of all, and no state has changed.
TEST(RanksDiscard, WhatRankZeroCannotDiscardIsAnErrorOfAll) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1, 2});
  const fakes::FaultyCalls faults(
      {.mode = fakes::FaultMode::fail, .nth = 1, .error = EIO, .call = "renameat"});
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    auto state = half(peers.rank(), 9);
    try {
      checkpointer.resume(state, {.step = 1, .discard_newer = true});
    } catch (const Error&) {
      EXPECT_EQ(fingerprint(state), fingerprint(half(peers.rank(), 9)));
      throw;
    }
  });
  EXPECT_TRUE(faults.was_reached());
  EXPECT_NE(failures[0], "");
  EXPECT_EQ(failures[1], "rank 0: " + failures[0]);
}

// Rank 0 has one image, and rank 1 has room: both leave the step out.
TEST(RanksBusy, OneBusyRankIsABusyOneOnAll) {
  for (const auto when_busy : {WhenBusy::skip, WhenBusy::error}) {
    fakes::TemporaryFolder folder;
    save_steps(folder, {1});
    MeetingPlace place(2);
    Gate gate;
    std::atomic<int> left = 2;
    place.run([&](Peers& peers) {
      auto options = options_of(folder, peers);
      options.when_busy = when_busy;
      options.images = 1 + peers.rank();
      Checkpointer checkpointer(options);
      const auto state = half(peers.rank(), 2);
      const auto first = checkpointer.save(2, state);
      const char* const what = "step 3 was not saved: all images are leased on rank 0;";
      if (when_busy == WhenBusy::error) {
        fakes::expect_error(ErrorCode::busy, what, [&] { checkpointer.save(3, state); });
      } else {
        const auto skipped = checkpointer.save(3, state);
        fakes::expect_error(ErrorCode::busy, what, [&] { skipped.wait(); });
      }
      if (--left == 0) gate.open();
      first.wait();
      checkpointer.save(4, state).wait();
      checkpointer.close();
      EXPECT_THAT(checkpointer.steps(), ElementsAre(1, 2, 4));
    });
  }
}

TEST(RanksUrgent, DropsOnAllRanksWhatHasNotBegunOnRankZero) {
  fakes::TemporaryFolder folder;
  save_steps(folder, {1});
  MeetingPlace place(2);
  Gate gate;
  std::atomic<int> left = 2;
  place.run([&](Peers& peers) {
    auto options = options_of(folder, peers);
    options.images = 4;
    Checkpointer checkpointer(options);
    const auto state_of = [&](int step) { return half(peers.rank(), step); };
    const auto first = checkpointer.save(2, state_of(2));
    while (first.progress().first == 0) std::this_thread::yield();
    const auto second = checkpointer.save(3, state_of(3));
    const auto third = checkpointer.save(4, state_of(4));
    const auto urgent = checkpointer.save(5, state_of(5), {.urgent = true});
    EXPECT_TRUE(third.is_done());
    fakes::expect_error(ErrorCode::busy,
                        "step 3 was not saved: it had not begun when the urgent save of step 5 "
                        "took its place",
                        [&] { second.wait(); });
    if (--left == 0) gate.open();
    urgent.wait();
    EXPECT_THAT(checkpointer.steps(), ElementsAre(1, 2, 5));
    // Nobody waited for the third, and still no later call throws it.
    checkpointer.save(6, state_of(6)).wait();
    EXPECT_TRUE(checkpointer.wait());
    checkpointer.close();
  });
}

// A rank whose turn it is already, and that waits for rank 0's word.
TEST(RanksUrgent, ARankThatHasBegunIsToldByRankZero) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  place.run([&](Peers& peers) {
    const CommitForAll commit(peers, std::chrono::seconds(600));
    const SaveOfAll save{3, 1};
    if (peers.rank() == 0) {
      commit.tell_dropped(save, {3, 5});
      return;
    }
    const RankPart part{[]() -> std::unique_ptr<store::ShardSource> {
                          ADD_FAILURE() << "it wrote";
                          return nullptr;
                        },
                        ""};
    store::Writer writer({.threads = 1});
    try {
      commit.follow(save, os::Directory::open(folder.path()), part, writer);
      ADD_FAILURE() << "it was saved";
    } catch (const DroppedSave& dropped) {
      EXPECT_STREQ(dropped.what(), DroppedSave(3, 5).what());
    }
  });
}

// In any order of events each step is there for all or was dropped for all.
TEST(RanksUrgent, EndsAlikeOnAllRanks) {
  constexpr int kRanks = 3, kSteps = 40;
  for (unsigned seed = 0; seed < 4; ++seed) {
    fakes::TemporaryFolder folder(fakes::memory_folder());
    std::vector<std::vector<std::string>> endings(kRanks);
    std::vector<std::int64_t> saved;
    MeetingPlace place(kRanks);
    place.run([&](Peers& peers) {
      auto options = options_of(folder, peers);
      options.images = 4;
      Checkpointer checkpointer(options);
      ranks::Random random(seed);  // the same on all
      std::vector<Ticket<fs::path>> tickets;
      for (int step = 1; step <= kSteps; ++step) {
        const auto state = Value::dict({{"w", fakes::counting(DType::u8, {99}, step)}});
        tickets.push_back(checkpointer.save(step, state, {.urgent = random() % 5 == 0}));
      }
      auto& own = endings[static_cast<std::size_t>(peers.rank())];
      for (const auto& ticket : tickets) {
        try {
          ticket.wait();
          own.emplace_back("saved");
        } catch (const Error& error) {
          own.emplace_back(error.what());
        }
      }
      checkpointer.close();
      if (peers.rank() == 0) saved = checkpointer.steps();
    });
    EXPECT_EQ(endings[1], endings[0]);
    EXPECT_EQ(endings[2], endings[0]);
    std::vector<std::int64_t> expected;
    for (int step = 1; step <= kSteps; ++step) {
      const auto& ending = endings[0][static_cast<std::size_t>(step - 1)];
      if (ending == "saved") {
        expected.push_back(step);
      } else {
        EXPECT_THAT(ending, HasSubstr("the urgent save of step"));
      }
    }
    EXPECT_EQ(saved, expected);
  }
}

// The names in a folder.
std::vector<std::string> names_in(const fs::path& path) {
  return os::Directory::open(path).list();
}

TEST(RanksMeeting, AFolderThatOthersDoNotSeeIsFoundAtOnce) {
  fakes::TemporaryFolder folder;
  fs::create_directory(folder.path() / "0");
  fs::create_directory(folder.path() / "1");
  MeetingPlace place(3);
  const auto failures = failures_of(place, 3, [&](Peers& peers) {
    auto options = options_of(folder, peers);
    options.directory = folder.path() / (peers.rank() == 0 ? "0" : "1");
    const Checkpointer checkpointer(options);
  });
  EXPECT_THAT(failures[0], HasSubstr("0 of rank 0 is not the folder that ranks 1 and 2 see there"));
  EXPECT_EQ(failures, std::vector<std::string>(3, failures[0]));
  EXPECT_THAT(names_in(folder.path() / "0"), IsEmpty());
  EXPECT_THAT(names_in(folder.path() / "1"), IsEmpty());
}

TEST(RanksMeeting, LeavesNothingBehind) {
  fakes::TemporaryFolder folder;
  MeetingPlace place(2);
  place.run([&](Peers& peers) { const Checkpointer checkpointer(options_of(folder, peers)); });
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
  // A rank 0 that was killed has left this; the next run clears it.
  fs::create_directory(folder.path() / ".understudy.meeting.tmp-0123abcd");
  save_steps(folder, {1});
  EXPECT_THAT(names_in(folder.path()), ElementsAre(".understudy.lock", "step-1"));
}

TEST(RanksMeeting, AFolderThatOneRankCannotOpenIsAnErrorOfAll) {
  fakes::TemporaryFolder folder;
  fakes::write_text(folder.path() / "file", "no folder");
  for (const int bad : {0, 1}) {
    MeetingPlace place(2);
    const auto failures = failures_of(place, 2, [&](Peers& peers) {
      auto options = options_of(folder, peers);
      if (peers.rank() == bad) options.directory = folder.path() / "file";
      const Checkpointer checkpointer(options);
    });
    EXPECT_THAT(failures[0], HasSubstr("rank " + std::to_string(bad) + ": "));
    EXPECT_EQ(failures[1], failures[0]);
  }
}

}  // namespace
}  // namespace understudy
