// Ranks as processes: each of them ends, or has a call refused, at every system call of the commit.
// What is on disk is the old set or the new set; the others fail, and the next save clears.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>

#include "checkpointer/ranks_folder.h"
#include "fakes/fast_calls.h"
#include "fakes/faulty_calls.h"
#include "fakes/forked_peers.h"
#include "store/look.h"

namespace understudy {
namespace {

using fakes::fast_calls;
using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;

constexpr int kRanks = 2;
constexpr unsigned kOldSeed = 10, kNewSeed = 20;

// How a rank ends that has not been killed.
constexpr int kSaved = 0, kFailed = 3, kUnknown = 4;

struct Scenario {
  const char* name;
  std::int64_t step;
  store::CommitOptions commit;
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

// How one rank ends when it saves with a fault in its calls.
int save_with(Peers& peers, const RanksFolder& run, const RanksFolder::How& how,
              const Fault& fault) {
  static const auto calls = fast_calls();
  const FaultyCalls faults(fault, calls);
  try {
    run.save(peers, how);
    return kSaved;
  } catch (const Error& error) {
    const std::string what = error.what();
    return what.find("may be there, or not") != std::string::npos ? kUnknown : kFailed;
  }
}

class EveryCallOfRanks : public testing::TestWithParam<std::tuple<Scenario, int>> {
 protected:
  static const Scenario& scenario() { return std::get<0>(GetParam()); }
  static int faulty_rank() { return std::get<1>(GetParam()); }

  static RanksFolder::How how() {
    return {.step = scenario().step, .seed = kNewSeed, .commit = scenario().commit};
  }

  static std::unique_ptr<RanksFolder> prepare() {
    auto run = std::make_unique<RanksFolder>(kRanks);
    for (const std::int64_t step : {1, 2}) save(*run, {.step = step, .seed = kOldSeed});
    return run;
  }

  static void save(const RanksFolder& run, const RanksFolder::How& how) {
    const auto endings =
        fakes::run_forked(kRanks, [&](Peers& peers) { return save_with(peers, run, how, {}); });
    ASSERT_EQ(endings, fakes::Endings(kRanks, kSaved));
  }

  // How many calls the rank makes when nothing goes wrong.
  static int count_calls() {
    const auto run = prepare();
    // An exit status has no room for a count.
    const auto counts = static_cast<std::atomic<int>*>(
        mmap(nullptr, sizeof(std::atomic<int>) * kRanks, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    fakes::run_forked(kRanks, [&](Peers& peers) {
      const auto calls = fast_calls();
      const FaultyCalls counting({}, calls);
      run->save(peers, how());
      counts[peers.rank()] = counting.count();
      return 0;
    });
    const int count = counts[faulty_rank()];
    munmap(counts, sizeof(std::atomic<int>) * kRanks);
    return count;
  }

  static bool is_new(const RanksFolder& run) {
    const auto name = store::step_name(scenario().step);
    return std::filesystem::exists(run.path() / name) && run.has_bytes(scenario().step, kNewSeed);
  }

  // Nothing under a step's name is torn, and the step is the old one or the new one.
  static void expect_whole_sets(const RanksFolder& run) {
    const bool is_old_there = std::filesystem::exists(run.path() / "step-2");
    ASSERT_TRUE(is_old_there);
    for (const auto& step : store::look_at_steps(run.path())) {
      run.expect_step(step.step, step.step == scenario().step && is_new(run) ? kNewSeed : kOldSeed);
    }
  }

  static void go_through(FaultMode mode, int error) {
    const int count = count_calls();
    ASSERT_GT(count, 10);
    int saved = 0, failed = 0;
    for (int nth = 1; nth <= count; ++nth) {
      SCOPED_TRACE("call " + std::to_string(nth));
      const auto run = prepare();
      const auto endings = fakes::run_forked(kRanks, [&](Peers& peers) {
        const bool is_faulty = peers.rank() == faulty_rank();
        return save_with(peers, *run, how(),
                         is_faulty ? Fault{.mode = mode, .nth = nth, .error = error} : Fault{});
      });
      const auto other = endings[static_cast<std::size_t>(1 - faulty_rank())];
      const auto faulty = endings[static_cast<std::size_t>(faulty_rank())];
      if (mode == FaultMode::exit) {
        ASSERT_EQ(faulty, fakes::kFaultExit);
      } else {
        EXPECT_EQ(faulty, other) << "one rank says another thing than the other";
      }
      const bool is_there = is_new(*run);
      EXPECT_TRUE(is_there || other != kSaved);
      EXPECT_TRUE(!is_there || other != kFailed);
      ++(is_there ? saved : failed);
      expect_whole_sets(*run);
      // The next run clears what is left, and saves.
      save(*run, {.step = 9, .seed = kOldSeed, .number = 2});
      expect_whole_sets(*run);
      std::int64_t step = 0;
      for (const auto& name : run->names()) EXPECT_TRUE(store::parse_step_name(name, step)) << name;
      if (HasFailure()) return;
    }
    EXPECT_GT(failed, 5);
    RecordProperty("saved", saved);
  }
};

TEST_P(EveryCallOfRanks, ProcessEndsBeforeIt) {
  go_through(FaultMode::exit, 0);
}
TEST_P(EveryCallOfRanks, OutOfSpace) {
  go_through(FaultMode::fail, ENOSPC);
}

INSTANTIATE_TEST_SUITE_P(
    Of, EveryCallOfRanks,
    testing::Combine(testing::Values(Scenario{"NewStep", 3, {}},
                                     Scenario{"Overwrite", 2, {.overwrite = true, .keep = 5}}),
                     testing::Values(0, 1)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param).name) + "Rank" +
             std::to_string(std::get<1>(info.param));
    });

}  // namespace
}  // namespace understudy
