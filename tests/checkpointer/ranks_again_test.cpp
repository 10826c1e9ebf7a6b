// A state of several ranks that is saved again: the outline, the assignment and the plan of the
// shard are the last ones, and what has changed is in the step all the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <future>
#include <memory>

#include "fakes/ranks_run.h"
#include "fakes/save_by_ranks.h"
#include "fakes/states.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::fingerprint;
using fakes::MeetingPlace;
using testing::Each;
using testing::HasSubstr;

constexpr int kRanks = 2;

// What one rank has. Scalars in walk order: step, at (its own), rate, stage.
struct Own {
  int rank;
  Tensor w = counting(DType::f32, {6, 4}, 1);  // the whole, of which it has some rows
  Tensor a = counting(DType::u8, {500}, 2);    // replicas
  Tensor b = counting(DType::i64, {40}, 3);
  Tensor own = counting(DType::u8, {9}, 4 + rank);      // of this rank's part
  Tensor layer = counting(DType::bf16, {3}, 6 + rank);  // at a path that only this rank has
  std::string text = std::string(2'000, 'x');
  int step = 1;
  int at = 10 * rank;
  double rate = 0.5;
  int stage = rank;

  Value state() const {
    const auto name = "stage" + std::to_string(rank);
    return Value::dict({{"step", step},
                        {"w", fakes::part_of(w, 0, rank, kRanks)},
                        {"loader", Value::dict({{"at", at}, {"seen", own}})},
                        {"a", a},
                        {"text", text},
                        {"rate", rate},
                        {"b", b},
                        {name, Value::dict({{"id", stage}, {"layer", layer}})}});
  }
  // Tensors in walk order.
  enum Place : std::size_t { kW, kSeen, kA, kB, kLayer };
};

// The state that lies in the step when `ranks` have saved it.
Value saved_of(const std::vector<Own>& ranks) {
  const auto& first = ranks[0];
  Value::Pairs loaders;
  for (const auto& own : ranks) {
    loaders.emplace_back(own.rank, Value::dict({{"at", own.at}, {"seen", own.own}}));
  }
  Value::Pairs pairs{
      {"step", first.step}, {"w", first.w},       {"loader", Value::dict(std::move(loaders))},
      {"a", first.a},       {"text", first.text}, {"rate", first.rate},
      {"b", first.b}};
  for (const auto& own : ranks) {
    pairs.emplace_back("stage" + std::to_string(own.rank),
                       Value::dict({{"id", own.stage}, {"layer", own.layer}}));
  }
  return Value::dict(std::move(pairs));
}

// Two ranks that have saved step 1 as number 5.
class RanksAgain : public testing::Test {
 protected:
  void SetUp() override {
    run([&](Checkpointer& checkpointer, Own& own) {
      const auto ticket = checkpointer.save(1, own.state(), how_, 5);
      EXPECT_EQ(ticket.metrics().plan, "new");
      ticket.wait();
    });
    expect_saved(1);
    outlines_ = count_outlines();
    EXPECT_EQ(outlines_, 1);
  }

  // On a thread for each rank. The ranks stay from one time to the next.
  void run(const std::function<void(Checkpointer&, Own&)>& body) {
    std::vector<std::future<void>> ends;
    for (std::size_t rank = 0; rank < kRanks; ++rank) {
      ends.push_back(std::async(std::launch::async, [&, rank] {
        auto& checkpointer = checkpointers_[rank];
        if (!checkpointer) {
          checkpointer = std::make_unique<Checkpointer>(fakes::options_of(folder_, *peers_[rank]));
        }
        body(*checkpointer, ranks_[rank]);
      }));
    }
    for (auto& end : ends) end.get();
  }
  std::string again(Checkpointer& checkpointer, std::int64_t step, const Again& what) {
    const auto ticket = checkpointer.save_again(step, what, how_);
    if (!ticket) return "nothing";
    ticket->wait();
    return ticket->metrics().plan;
  }
  void expect_saved(std::int64_t step) const {
    const auto found = load_file(folder_ / ("step-" + std::to_string(step)));
    EXPECT_EQ(fingerprint(found), fingerprint(saved_of(ranks_)));
  }
  // How often they have been exchanged.
  std::int64_t count_outlines() const {
    return std::ranges::count_if(place_.topics(), [](const std::string& topic) {
      return topic.find("outlines") != std::string::npos;
    });
  }

  fakes::TemporaryFolder folder_;
  MeetingPlace place_{kRanks};
  const SaveOptions how_{.per_rank = {"loader"}};
  std::vector<Own> ranks_{{.rank = 0}, {.rank = 1}};
  std::unique_ptr<Peers> peers_[kRanks] = {place_.join(0), place_.join(1)};
  std::unique_ptr<Checkpointer> checkpointers_[kRanks];
  std::int64_t outlines_ = 0;
};

TEST_F(RanksAgain, TakesNewBytesAndScalarsAndExchangesNoOutline) {
  run([&](Checkpointer& checkpointer, Own& own) {
    for (auto* tensor : {&own.w, &own.a, &own.b, &own.own, &own.layer}) {
      tensor->data()[1] = std::byte{99};
    }
    own.step = 2;
    own.at += 5;
    own.stage += 7'000'000;
    const Again what{5, 6, {{0, own.step}, {1, own.at}, {3, own.stage}}, {}, {}};
    EXPECT_EQ(again(checkpointer, 2, what), "again");
  });
  expect_saved(2);
  run([&](Checkpointer& checkpointer, Own& own) {
    own.rate = 1.25;  // what was not changed is as it was left
    EXPECT_EQ(again(checkpointer, 3, {6, 7, {{2, own.rate}}, {}, {}}), "again");
  });
  expect_saved(3);
  EXPECT_EQ(count_outlines(), outlines_);
}

TEST_F(RanksAgain, AScalarThatHasChangedOnOneRankOnlyIsThatRanks) {
  run([&](Checkpointer& checkpointer, Own& own) {
    Again what{5, 6, {}, {}, {}};
    if (own.rank == 1) {
      own.at = 4'321;
      own.stage = 77;
      what.scalars = {{1, own.at}, {3, own.stage}};
    }
    EXPECT_EQ(again(checkpointer, 2, what), "again");
  });
  expect_saved(2);
  EXPECT_EQ(count_outlines(), outlines_);
}

TEST_F(RanksAgain, TakesTensorsFromElsewhereOnAnyRank) {
  for (const int mover : {0, 1}) {
    const auto step = 2 + mover;
    run([&](Checkpointer& checkpointer, Own& own) {
      const auto was = static_cast<std::uint64_t>(4 + step - 1);
      Again what{was, was + 1, {}, {}, {}};
      if (own.rank == mover) {
        own.own = counting(DType::u8, {9}, 40 + step);
        own.layer = counting(DType::bf16, {3}, 60 + step);
        what.moves = {{Own::kSeen, own.own.data()}, {Own::kLayer, own.layer.data()}};
      }
      // Of the replicas each rank moves its own, whoever writes them.
      own.a = counting(DType::u8, {500}, 70 + step);
      own.b = counting(DType::i64, {40}, 80 + step);
      what.moves.insert(what.moves.begin() + (own.rank == mover ? 1 : 0),
                        {{Own::kA, own.a.data()}, {Own::kB, own.b.data()}});
      EXPECT_EQ(again(checkpointer, step, what), "again");
    });
    expect_saved(step);
  }
  EXPECT_EQ(count_outlines(), outlines_);
}

// The chunk itself lies elsewhere.
TEST_F(RanksAgain, TakesAChunkFromElsewhere) {
  run([&](Checkpointer& checkpointer, Own& own) {
    own.w = counting(DType::f32, {6, 4}, 8);
    const auto local = fakes::part_of(own.w, 0, own.rank, kRanks);
    EXPECT_EQ(again(checkpointer, 2, {5, 6, {}, {{Own::kW, local.as_tensor().data()}}, {}}),
              "again");
  });
  expect_saved(2);
}

// One rank's outline is another one, and the other rank says the last state again.
TEST_F(RanksAgain, AChangedShapeOnOneRankIsPlannedByAll) {
  for (const int changer : {0, 1}) {
    const auto step = 2 + changer;
    const auto was = static_cast<std::uint64_t>(4 + step - 1);
    run([&](Checkpointer& checkpointer, Own& own) {
      own.step = step;
      own.a.data()[step] = std::byte{77};
      if (own.rank == changer) {
        own.layer = counting(DType::bf16, {30}, 6);
        checkpointer.save(step, own.state(), how_, was + 1).wait();
      } else {
        EXPECT_NE(again(checkpointer, step, {was, was + 1, {{0, own.step}}, {}, {}}), "nothing");
      }
    });
    expect_saved(step);
    EXPECT_EQ(count_outlines(), outlines_ + 1 + changer);
  }
  // From there on both go on as before.
  run([&](Checkpointer& checkpointer, Own& own) {
    own.b.data()[0] = std::byte{5};
    EXPECT_EQ(again(checkpointer, 4, {7, 8, {}, {}, {}}), "again");
  });
  expect_saved(4);
  EXPECT_EQ(count_outlines(), outlines_ + 2);
}

TEST_F(RanksAgain, AnAddedKeyOnOneRankIsInTheStep) {
  const auto added = counting(DType::f64, {5}, 9);
  run([&](Checkpointer& checkpointer, Own& own) {
    if (own.rank == 0) {
      EXPECT_NE(again(checkpointer, 2, {5, 6, {}, {}, {}}), "nothing");
      return;
    }
    const auto state = own.state();
    Value::Pairs pairs(state.pairs().begin(), state.pairs().end());
    pairs.emplace_back("added", added);
    checkpointer.save(2, Value::dict(std::move(pairs)), how_, 6).wait();
  });
  const auto found = load_file(folder_ / "step-2");
  EXPECT_EQ(fingerprint(Value::dict({{"x", found.at("added")}})),
            fingerprint(Value::dict({{"x", added}})));
  EXPECT_EQ(fingerprint(found.at("w")), fingerprint(ranks_[0].w));
}

// Then the caller makes the state anew, within the same call of all.
TEST_F(RanksAgain, GivesNothingForAnotherStateAndSaysNothing) {
  run([&](Checkpointer& checkpointer, Own& own) {
    EXPECT_EQ(again(checkpointer, 2, {4, 6, {}, {}, {}}), "nothing");
    EXPECT_EQ(again(checkpointer, 2, {0, 6, {}, {}, {}}), "nothing");
    EXPECT_FALSE(checkpointer.save_again(2, {5, 6, {}, {}, {}}, {.per_rank = {"loader", "a"}}));
    // Tied from now on, or beyond the last tensor.
    EXPECT_EQ(again(checkpointer, 2, {5, 6, {}, {{Own::kB, own.a.data()}}, {}}), "nothing");
    EXPECT_EQ(again(checkpointer, 2, {5, 6, {}, {{5, own.a.data()}}, {}}), "nothing");
    if (own.rank == 0) {
      EXPECT_EQ(again(checkpointer, 2, {5, 6, {}, {}, {}}), "again");
    } else {
      checkpointer.save(2, own.state(), how_, 6).wait();
    }
  });
  expect_saved(2);
  EXPECT_EQ(count_outlines(), outlines_);
}

TEST_F(RanksAgain, WhatCannotBeIsAnErrorOfAll) {
  std::vector<std::string> failures(kRanks);
  run([&](Checkpointer& checkpointer, Own& own) {
    Again what{5, 6, {}, {}, {}};
    if (own.rank == 1) what.scalars = {{4, 1}};
    try {
      again(checkpointer, 2, what);
    } catch (const Error& error) {
      failures[static_cast<std::size_t>(own.rank)] = error.what();
    }
  });
  EXPECT_THAT(failures, Each(HasSubstr("no scalar 4")));
  EXPECT_THAT(failures[0], HasSubstr("rank 1: "));
  run([&](Checkpointer& checkpointer, Own& own) {
    own.step = 3;
    checkpointer.save(3, own.state(), how_, 7).wait();
  });
  expect_saved(3);
}

// A call that could not be captured is no less the last one.
TEST_F(RanksAgain, GoesOnAfterAStepThatCannotBe) {
  run([&](Checkpointer& checkpointer, Own& own) {
    own.own = counting(DType::u8, {9}, 50 + own.rank);
    EXPECT_THROW(again(checkpointer, 1, {5, 6, {}, {{Own::kSeen, own.own.data()}}, {}}), Error);
    own.rate = 3;
    EXPECT_NE(again(checkpointer, 2, {6, 7, {{2, own.rate}}, {}, {}}), "nothing");
  });
  expect_saved(2);
}

TEST_F(RanksAgain, KeepsTheOwnersNoLongerThanTheSave) {
  std::vector<std::weak_ptr<int>> seen(2 * kRanks);
  run([&](Checkpointer& checkpointer, Own& own) {
    auto owner = std::make_shared<int>(1), other = std::make_shared<int>(2);
    const auto place = static_cast<std::size_t>(2 * own.rank);
    seen[place] = owner;
    seen[place + 1] = other;
    EXPECT_EQ(again(checkpointer, 2, {5, 6, {}, {}, std::move(owner)}), "again");
    auto tensor = Tensor::from_owner(std::move(other), own.a.data(), DType::u8, {500});
    checkpointer.save(3, Value::dict({{"a", std::move(tensor)}}), {}, 7).wait();
  });
  for (const auto& one : seen) EXPECT_TRUE(one.expired());
}

}  // namespace
}  // namespace understudy
