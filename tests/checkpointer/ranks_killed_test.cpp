// Ranks that are killed at random, one of them or all, again and again in one folder: what is
// resumed is whole, and never older than what a ticket has called durable.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <new>
#include <thread>

#include "fakes/fast_calls.h"
#include "fakes/faulty_calls.h"
#include "fakes/forked_peers.h"
#include "fakes/states.h"
#include "ranks/placements.h"
#include "ranks/ranges.h"
#include "store/names.h"
#include "store/verify.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;
using ranks::Random;

constexpr int kMostRanks = 3;
constexpr int kKills = 50;

// How a rank ends that was not killed.
constexpr int kDone = 0, kFailed = 3, kWrong = 4;

// What all processes see.
struct Board {
  std::atomic<std::int64_t> durable = 0;  // the newest step that a ticket has called durable
  std::atomic<int> pids[kMostRanks] = {};
  std::atomic<int> calls[kMostRanks] = {};
};

class SharedBoard {
 public:
  SharedBoard()
      : board_(new (mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                         -1, 0)) Board) {}
  ~SharedBoard() { munmap(board_, sizeof(Board)); }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  Board* operator->() const { return board_; }

 private:
  Board* board_;
};

// One run of some ranks: each resumes, and saves three more steps.
struct Round {
  int ranks = kMostRanks;
  int victim = 0;
  int nth = 0;  // the victim's call at which it happens; 0: nobody is killed
  bool kills_all = false;
};

Value state_of(const Peers& peers, std::int64_t step) {
  const Dims shape{24, 50};
  auto part = ranks::whole(shape);
  ranks::cut(part, 0, peers.count(), peers.rank());
  const auto whole = fakes::counting(DType::f32, shape, static_cast<int>(step));
  const auto own = Tensor::zeros(DType::f32, part.sizes);
  ranks::copy_part(whole, ranks::whole(shape), own, part, part);
  return Value::dict({{"w", chunk(own, {shape, part.offsets})},
                      {"plain", fakes::counting(DType::u8, {300}, static_cast<int>(step))},
                      {"step", step}});
}

int train(Peers& peers, const std::filesystem::path& path, SharedBoard& board) {
  const auto durable = board->durable.load();
  CheckpointerOptions options{.directory = path, .keep = 2, .threads = 1};
  options.peers = {std::shared_ptr<void>(), &peers};
  Checkpointer checkpointer(options);
  auto state = state_of(peers, 0);
  const auto step = checkpointer.resume(state).value_or(0);
  if (step < durable) return kWrong;
  if (fakes::fingerprint(state) != fakes::fingerprint(state_of(peers, step))) return kWrong;
  for (auto next = step + 1; next <= step + 3; ++next) {
    checkpointer.save(next, state_of(peers, next)).wait();
    auto known = board->durable.load();
    while (known < next && !board->durable.compare_exchange_weak(known, next)) {
    }
  }
  checkpointer.close();
  return kDone;
}

int run_rank(Peers& peers, const std::filesystem::path& path, const Round& round,
             SharedBoard& board) {
  static const auto calls = fakes::fast_calls();
  board->pids[peers.rank()] = getpid();
  for (int rank = 0; rank < round.ranks; ++rank) {
    while (board->pids[rank] == 0) std::this_thread::yield();
  }
  const bool is_victim = round.nth > 0 && peers.rank() == round.victim;
  const FaultyCalls faults(
      is_victim ? Fault{.mode = FaultMode::event,
                        .nth = round.nth,
                        .event =
                            [&] {
                              for (int rank = 0; rank < round.ranks && round.kills_all; ++rank) {
                                if (rank != round.victim) kill(board->pids[rank], SIGKILL);
                              }
                              kill(getpid(), SIGKILL);
                            }}
                : Fault{},
      calls);
  int ending = kFailed;
  try {
    ending = train(peers, path, board);
  } catch (const Error&) {  // of those that are missed, or that some are missed
  }
  board->calls[peers.rank()] = faults.count();
  return ending;
}

fakes::Endings run(const std::filesystem::path& path, const Round& round, SharedBoard& board) {
  for (auto& pid : board->pids) pid = 0;
  return fakes::run_forked(round.ranks,
                           [&](Peers& peers) { return run_rank(peers, path, round, board); });
}

TEST(RanksKilled, FiftyTimesInARowNothingIsTornAndNothingIsLost) {
  fakes::TemporaryFolder folder(fakes::memory_folder());
  SharedBoard board;
  Random random(81);
  ASSERT_EQ(run(folder.path(), {}, board), fakes::Endings(kMostRanks, kDone));
  ASSERT_EQ(board->durable, 3);
  int killed = 0, groups = 0;
  for (int i = 0; killed < kKills && i < 4 * kKills; ++i) {
    SCOPED_TRACE("round " + std::to_string(i));
    Round round;
    round.ranks = 2 + static_cast<int>(random() % 2);
    round.victim = static_cast<int>(random() % static_cast<unsigned>(round.ranks));
    const auto most = static_cast<unsigned>(board->calls[round.victim].load());
    round.nth = 1 + static_cast<int>(random() % std::max(most, 20u));
    round.kills_all = random() % 2 == 0;
    const auto endings = run(folder.path(), round, board);
    const bool is_killed = endings[static_cast<std::size_t>(round.victim)] == -SIGKILL;
    killed += is_killed;
    groups += is_killed && round.kills_all;
    for (const int ending : endings) {
      const bool is_fine = ending == kDone || ending == kFailed || ending == -SIGKILL;
      ASSERT_TRUE(is_fine) << "a rank ended with " << ending;
    }
  }
  EXPECT_EQ(killed, kKills);
  EXPECT_GT(groups, kKills / 4);
  EXPECT_LT(groups, kKills);
  // The next run clears what was left, and saves.
  ASSERT_EQ(run(folder.path(), {}, board), fakes::Endings(kMostRanks, kDone));
  std::vector<std::string> steps;
  for (const auto& name : os::Directory::open(folder.path()).list()) {
    std::int64_t step = 0;
    if (store::parse_step_name(name, step)) {
      steps.push_back(name);
      EXPECT_TRUE(store::verify_step(folder.path() / name).damage.empty()) << name;
    } else {
      EXPECT_EQ(name, store::kLockName);
    }
  }
  EXPECT_EQ(steps.size(), 2u);
}

}  // namespace
}  // namespace understudy
