#include "ranks/exchange.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "fakes/expect_error.h"
#include "fakes/forked_peers.h"
#include "fakes/thread_peers.h"

namespace understudy::ranks {
namespace {

using fakes::MeetingPlace;
using fakes::PeersFault;
using namespace std::chrono_literals;

constexpr auto kLong = 600s;
constexpr auto kSaves = Peers::Lane::saves;

Topic save_of(std::int64_t step, std::uint64_t number = 1) {
  return {kSaves, number, "save", step};
}

std::string given_by(int rank) {
  return "rank" + std::string(static_cast<std::size_t>(rank), '!');
}

// What all get when all is well; also a message that is larger than any buffer of the kernel.
void require_texts(Peers& peers) {
  const Exchanger exchanger(peers, kLong);
  const auto texts =
      exchanger.require_all(save_of(7), exchanger.ask(save_of(7), given_by(peers.rank())));
  if (texts.size() != static_cast<std::size_t>(peers.count())) throw std::runtime_error("count");
  for (int rank = 0; rank < peers.count(); ++rank) {
    if (texts[static_cast<std::size_t>(rank)] != given_by(rank)) throw std::runtime_error("text");
  }
  const Topic topic{Peers::Lane::calls, 5, "outlines", -1};
  const std::string large(3'000'000, static_cast<char>('a' + peers.rank()));
  const auto all = exchanger.require_all(topic, exchanger.ask(topic, large));
  for (const auto& text : all) {
    if (text.size() != large.size()) throw std::runtime_error("size");
  }
}

TEST(Exchange, GivesEachWhatAllHaveGivenAmongThreads) {
  MeetingPlace place(4);
  EXPECT_NO_THROW(place.run(require_texts));
  EXPECT_EQ(place.topics(), (std::vector<std::string>{"the save of step 7", "the outlines"}));
}

TEST(Exchange, GivesEachWhatAllHaveGivenAmongProcesses) {
  const auto endings = fakes::run_forked(4, [](Peers& peers) {
    require_texts(peers);
    return 0;
  });
  EXPECT_EQ(endings, fakes::Endings(4, 0));
}

TEST(Exchange, OfOneRankIsItsOwnMessage) {
  MeetingPlace place(1);
  EXPECT_NO_THROW(place.run(require_texts));
}

// One exchange by each rank; what it threw, by rank.
std::vector<std::string> failures_of(MeetingPlace& place, int count,
                                     const std::function<void(Peers&)>& body) {
  std::vector<std::string> failures(static_cast<std::size_t>(count));
  place.run([&](Peers& peers) {
    try {
      body(peers);
    } catch (const Error& error) {
      failures[static_cast<std::size_t>(peers.rank())] =
          std::string(to_string(error.code())) + ": " + error.what();
    }
  });
  return failures;
}

void save_step_7(Peers& peers) {
  const Exchanger exchanger(peers, kLong);
  exchanger.require_all(save_of(7), exchanger.ask(save_of(7), given_by(peers.rank())));
}

constexpr auto kMissing =
    "timeout: rank 1 did not come within 600 s, or ended; waited for the save of step 7";

TEST(Exchange, NamesTheRankWhoseNetworkFails) {
  MeetingPlace place(3);
  place.plan({PeersFault::Type::fails, 1, kSaves, 1});
  EXPECT_EQ(
      failures_of(place, 3, save_step_7),
      (std::vector<std::string>{kMissing, "io: the network is down, says the test", kMissing}));
  EXPECT_EQ(place.reached(), 1);
}

TEST(Exchange, NamesTheRankThatIsLateWhichHasAllTheSame) {
  MeetingPlace place(3);
  place.plan({PeersFault::Type::late, 1, kSaves, 1});
  EXPECT_EQ(failures_of(place, 3, save_step_7), (std::vector<std::string>{kMissing, "", kMissing}));
  EXPECT_EQ(place.reached(), 1);
}

TEST(Exchange, NamesAllThatARankMisses) {
  MeetingPlace place(3);
  place.plan({PeersFault::Type::cut_off, 1, kSaves, 1});
  EXPECT_EQ(failures_of(place, 3, save_step_7),
            (std::vector<std::string>{
                kMissing,
                "timeout: ranks 0 and 2 did not come within 600 s, or ended; waited for the save "
                "of step 7",
                kMissing}));
  EXPECT_EQ(place.reached(), 1);
}

TEST(Exchange, GivesAllTheOneErrorOfTheFirstRankThatFailed) {
  MeetingPlace place(4);
  const auto failures = failures_of(place, 4, [](Peers& peers) {
    const Exchanger exchanger(peers, kLong);
    if (peers.rank() % 2 == 0) return save_step_7(peers);
    const Error failure(ErrorCode::no_space, "no space for shard " + given_by(peers.rank()));
    exchanger.require_all(save_of(7), exchanger.tell_failure(save_of(7), failure));
  });
  EXPECT_EQ(failures, std::vector<std::string>(4, "no_space: rank 1: no space for shard rank!"));
}

TEST(Exchange, AFailureIsToldBeforeWhoIsMissing) {
  MeetingPlace place(3);
  place.plan({PeersFault::Type::late, 0, kSaves, 1});
  const auto failures = failures_of(place, 3, [](Peers& peers) {
    const Exchanger exchanger(peers, kLong);
    if (peers.rank() != 2) return save_step_7(peers);
    exchanger.require_all(save_of(7),
                          exchanger.tell_failure(save_of(7), std::runtime_error("oh no")));
  });
  EXPECT_EQ(failures, std::vector<std::string>(3, "io: rank 2: oh no"));
}

TEST(Exchange, RanksAtDifferentStepsFindOut) {
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [](Peers& peers) {
    const Exchanger exchanger(peers, kLong);
    const auto topic = save_of(7 + peers.rank());
    exchanger.require_all(topic, exchanger.ask(topic, ""));
  });
  EXPECT_EQ(failures[0],
            "invalid: rank 1 is at the save of step 8, while this one, rank 0, is at the save of "
            "step 7; all ranks must make the same calls in the same order");
  EXPECT_EQ(failures[1],
            "invalid: rank 0 is at the save of step 7, while this one, rank 1, is at the save of "
            "step 8; all ranks must make the same calls in the same order");
}

TEST(Exchange, RanksAtDifferentCallsFindOut) {
  MeetingPlace place(2);
  const auto failures = failures_of(place, 2, [](Peers& peers) {
    const Exchanger exchanger(peers, kLong);
    const Topic topic{kSaves, 1, peers.rank() == 0 ? "resume" : "save", -1};
    exchanger.ask(topic, "");
  });
  EXPECT_NE(failures[0].find("rank 1 is at the save, while"), std::string::npos) << failures[0];
}

TEST(Exchange, AMessageThatAnotherRankChangedIsRefusedOrAnother) {
  MeetingPlace sample(1);
  std::string message;
  sample.plan(
      {PeersFault::Type::changed, 0, kSaves, 1, [&](std::string m) { return message = m; }});
  sample.run(save_step_7);
  ASSERT_FALSE(message.empty());
  for (std::size_t cut = 0; cut + given_by(1).size() - 1 < message.size(); ++cut) {
    MeetingPlace place(2);
    place.plan({PeersFault::Type::changed, 1, kSaves, 1,
                [&](const std::string& m) { return m.substr(0, cut); }});
    const auto failures = failures_of(place, 2, save_step_7);
    EXPECT_EQ(failures[0], "corrupt: what rank 1 sent is no message of this version") << cut;
    EXPECT_EQ(place.reached(), 1);
  }
}

TEST(Exchange, ALateMessageIsNotTakenForTheNextExchange) {
  MeetingPlace place(2);
  place.plan({PeersFault::Type::late, 1, kSaves, 1});
  const auto failures = failures_of(place, 2, [](Peers& peers) {
    try {
      save_step_7(peers);
    } catch (const Error&) {
      // as it must be
    }
    const Exchanger exchanger(peers, kLong);
    const auto next = save_of(8, 2);
    exchanger.require_all(next, exchanger.ask(next, ""));
  });
  EXPECT_EQ(failures, std::vector<std::string>(2));
}

// A rank that gave up goes on to the next exchange and finds the slow one there, not behind.
TEST(Exchange, AmongProcessesKeepsNumbersApart) {
  const auto endings = fakes::run_forked(3, [](Peers& peers) {
    const Exchanger impatient(peers, peers.rank() == 1 ? 0s : kLong);
    const auto answers = impatient.ask(save_of(7), given_by(peers.rank()));
    const Exchanger patient(peers, kLong);
    const auto next = patient.require_all(save_of(8, 2), patient.ask(save_of(8, 2), "next"));
    return next == std::vector<std::string>(3, "next") && answers.size() == 3 ? 0 : 1;
  });
  EXPECT_EQ(endings, fakes::Endings(3, 0));
}

// Rank 0 hears all, the others only rank 0: nobody waits for a rank that it need not hear.
void gather_and_tell(Peers& peers) {
  const Exchanger exchanger(peers, kLong);
  const auto told = save_of(7, 2);
  if (peers.rank() > 0) {
    exchanger.ask(save_of(7), given_by(peers.rank()), Peers::Want::none);
    const auto text =
        exchanger.require_first(told, exchanger.ask(told, "", Peers::Want::first_rank));
    if (text != given_by(peers.count() - 1)) throw std::runtime_error("not told: " + text);
    return;
  }
  const auto texts = exchanger.require_all(save_of(7), exchanger.ask(save_of(7), given_by(0)));
  exchanger.ask(told, texts.back(), Peers::Want::none);
}

TEST(Exchange, OneRankHearsAllAndTellsThem) {
  MeetingPlace place(3);
  EXPECT_NO_THROW(place.run(gather_and_tell));
  const auto endings = fakes::run_forked(3, [](Peers& peers) {
    gather_and_tell(peers);
    return 0;
  });
  EXPECT_EQ(endings, fakes::Endings(3, 0));
}

TEST(Exchange, WhoOnlyNeedsTheFirstRankMissesNoOther) {
  MeetingPlace place(3);
  place.plan({PeersFault::Type::late, 2, kSaves, 1});
  place.plan({PeersFault::Type::cut_off, 0, kSaves, 2});
  const auto failures = failures_of(place, 3, [](Peers& peers) {
    const Exchanger exchanger(peers, kLong);
    for (const std::uint64_t number : {1, 2}) {
      const auto topic = save_of(7, number);
      exchanger.require_first(topic, exchanger.ask(topic, "", Peers::Want::first_rank));
    }
  });
  const std::string missed =
      "timeout: rank 0 did not come within 600 s, or ended; waited for the save of step 7";
  EXPECT_EQ(failures, (std::vector<std::string>{"", missed, missed}));
  EXPECT_EQ(place.reached(), 2);
}

TEST(Exchange, AProcessThatIsKilledIsMissedAtOnce) {
  const auto endings = fakes::run_forked(3, [](Peers& peers) {
    if (peers.rank() == 1) raise(SIGKILL);
    const auto message =
        fakes::expect_error(ErrorCode::timeout, "rank 1 did not come", [&] { save_step_7(peers); });
    return message.empty() ? 1 : 0;
  });
  EXPECT_EQ(endings, (fakes::Endings{0, -SIGKILL, 0}));
}

}  // namespace
}  // namespace understudy::ranks
