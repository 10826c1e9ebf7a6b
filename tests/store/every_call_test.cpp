// Every system call of a commit fails once, in every way, and the process ends
// before every one of them: what is on disk is the old set or the new set.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/child.h"
#include "fakes/faulty_calls.h"
#include "store/run_folder.h"
#include "understudy/error.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;
using fakes::Fault;
using fakes::FaultMode;
using fakes::FaultyCalls;

/// The kernel's calls without waiting for the disk: thousands of commits run.
os::Calls fast_calls() {
  os::Calls table = os::system_calls();
  table.fsync = [](int fd) { return fcntl(fd, F_GETFD) < 0 ? -1 : 0; };
  return table;
}

int refuse_exchange(int, const char*, int, const char*, unsigned) {
  errno = EINVAL;
  return -1;
}

int refuse_direct(int dir, const char* path, int flags, mode_t mode) {
  if (flags & O_DIRECT) {
    errno = EINVAL;
    return -1;
  }
  return ::openat(dir, path, flags, mode);
}

int refuse_reserve(int, int, off_t, off_t) {
  errno = EOPNOTSUPP;
  return -1;
}

/// A folder as it was, what is done in it, and what must be there afterwards.
struct Scenario {
  std::string name;
  os::Calls calls = fast_calls();
  std::int64_t step = 3;
  CommitOptions options = {};
  WriterChoice writer = WriterChoice::automatic;
  void (*prepare)(const RunFolder&) = [](const RunFolder&) {};
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

constexpr unsigned kNewSeed = 99;

/// Steps 1 and 2, of seeds 1 and 2.
const fs::path& prepared_folder() {
  static const std::unique_ptr<const RunFolder> folder = [] {
    auto run = std::make_unique<RunFolder>(fakes::memory_folder());
    run->commit(1, 1);
    run->commit(2, 2);
    return run;
  }();
  return folder->path();
}

void add_leftovers(const RunFolder& run) {
  fs::copy(run / "step-1", run / "step-3.tmp-0123abcd");
  fs::copy(run / "step-2", run / "step-0.del-0123abcd");
  fs::rename(run / "step-2", run / "step-2.old-0123abcd");
}

std::vector<Scenario> scenarios() {
  std::vector<Scenario> all;
  all.push_back({.name = "NewStep"});
  all.push_back({.name = "Buffered"});
  all.back().calls.openat = refuse_direct;
  all.back().calls.fallocate = refuse_reserve;
  all.push_back({.name = "Threads", .writer = WriterChoice::threads});
  all.push_back({.name = "AskedToBuffer", .writer = WriterChoice::buffered});
  all.push_back({.name = "Keep", .options = {.overwrite = false, .keep = 1}});
  all.push_back({.name = "Leftovers", .prepare = add_leftovers});
  all.push_back({.name = "Overwrite", .step = 2, .options = {.overwrite = true, .keep = 5}});
  all.push_back(
      {.name = "OverwriteByRenames", .step = 2, .options = {.overwrite = true, .keep = {}}});
  all.back().calls.renameat2 = refuse_exchange;
  return all;
}

class EveryCall : public testing::TestWithParam<Scenario> {
 protected:
  static std::unique_ptr<RunFolder> prepare() {
    auto run = std::make_unique<RunFolder>(fakes::memory_folder(), GetParam().writer);
    fs::copy(prepared_folder(), run->path(), fs::copy_options::recursive);
    GetParam().prepare(*run);
    return run;
  }

  static void save(RunFolder& run) { run.commit(GetParam().step, kNewSeed, GetParam().options); }

  static std::vector<std::string> count_calls() {
    auto run = prepare();
    const FaultyCalls counting({}, GetParam().calls);
    save(*run);
    return counting.log();
  }

  /// Nothing under a step's name is torn, and each is of a seed it may have.
  static void expect_no_torn_step(const RunFolder& run) {
    for (const StepFolder& step : look_at_steps(run.path())) {
      ASSERT_TRUE(step.is_complete()) << step.path << ": " << step.problem;
      const FileCheck check = verify_step(step.path);
      EXPECT_TRUE(check.damage.empty()) << check.damage[0].what;
    }
  }

  /// The folder is locked and clear: the old set or the new set, no third.
  static void expect_old_or_new_set(const RunFolder& run, bool must_be_old, bool must_be_new) {
    const Scenario& scenario = GetParam();
    const auto steps = run.steps();
    const bool is_new_there =
        fs::exists(run / step_name(scenario.step)) && run.has_bytes(scenario.step, kNewSeed);
    if (must_be_new) {
      EXPECT_TRUE(is_new_there);
    }
    if (must_be_old) {
      EXPECT_FALSE(is_new_there);
    }
    if (is_new_there) run.expect_step(scenario.step, kNewSeed);
    for (const unsigned step : {1u, 2u}) {
      const bool may_be_gone =
          is_new_there && scenario.options.keep && scenario.options.keep->last == 1;
      if (may_be_gone && !fs::exists(run / step_name(step))) continue;
      if (step == scenario.step && is_new_there) continue;
      run.expect_step(step, step);
    }
  }

  /// The next save works, and leaves nothing but steps.
  static void expect_next_save_works(RunFolder& run) {
    run.commit(GetParam().step, kNewSeed, {.overwrite = true, .keep = {}});
    run.commit(50, 50);
    run.expect_step(50, 50);
    run.expect_step(GetParam().step, kNewSeed);
    std::int64_t step = 0;
    for (const std::string& name : run.names()) EXPECT_TRUE(parse_step_name(name, step)) << name;
  }

  static void fail_each_call(FaultMode mode, int error) {
    const auto calls = count_calls();
    for (std::size_t nth = 1; nth <= calls.size(); ++nth) {
      SCOPED_TRACE("call " + std::to_string(nth) + ", " + calls[nth - 1]);
      auto run = prepare();
      std::string failure;
      {
        const FaultyCalls faults({.mode = mode, .nth = static_cast<int>(nth), .error = error},
                                 GetParam().calls);
        try {
          save(*run);
        } catch (const Error& caught) {
          failure = caught.what();
          EXPECT_THAT(failure, testing::HasSubstr(run->path().string()));
          EXPECT_THAT(failure, testing::HasSubstr(strerror(error)));
          const bool is_full = error == ENOSPC || calls[nth - 1] == "mmap";  // memory or disk
          EXPECT_EQ(caught.code(), is_full ? ErrorCode::no_space : ErrorCode::io);
        }
        EXPECT_TRUE(faults.was_reached());
      }
      // What is told to have failed has not happened, unless the system lied.
      const bool must_be_old = !failure.empty() && mode == FaultMode::fail;
      const os::ReplaceCalls fast(GetParam().calls);
      expect_no_torn_step(*run);
      lock_folder(run->path());
      expect_no_torn_step(*run);
      expect_old_or_new_set(*run, must_be_old, failure.empty());
      expect_next_save_works(*run);
      if (HasFailure()) return;
    }
  }

  static void handle_each_call(FaultMode mode, int error) {
    const auto calls = count_calls();
    for (std::size_t nth = 1; nth <= calls.size(); ++nth) {
      // These never say EINTR, or their errors are not told by a result.
      if (calls[nth - 1] == "readdir" || calls[nth - 1] == "fdopendir") continue;
      SCOPED_TRACE("call " + std::to_string(nth) + ", " + calls[nth - 1]);
      auto run = prepare();
      {
        const FaultyCalls faults({.mode = mode, .nth = static_cast<int>(nth), .error = error},
                                 GetParam().calls);
        save(*run);
        EXPECT_TRUE(faults.was_reached());
      }
      expect_no_torn_step(*run);
      expect_old_or_new_set(*run, false, true);
      if (HasFailure()) return;
    }
  }
};

TEST_P(EveryCall, OutOfSpace) {
  fail_each_call(FaultMode::fail, ENOSPC);
}
TEST_P(EveryCall, Refused) {
  fail_each_call(FaultMode::fail, EIO);
}
TEST_P(EveryCall, DoneAndThenRefused) {
  fail_each_call(FaultMode::fail_after_doing, EIO);
}
TEST_P(EveryCall, Interrupted) {
  handle_each_call(FaultMode::fail, EINTR);
}
TEST_P(EveryCall, Short) {
  handle_each_call(FaultMode::short_count, 0);
}

TEST_P(EveryCall, ProcessEndsBeforeIt) {
  const auto calls = count_calls();
  for (std::size_t nth = 1; nth <= calls.size() + 1; ++nth) {
    const bool comes_to_the_end = nth > calls.size();
    SCOPED_TRACE("call " + std::to_string(nth));
    auto run = prepare();
    const int status = fakes::in_child([&] {
      const FaultyCalls faults({.mode = FaultMode::exit, .nth = static_cast<int>(nth)},
                               GetParam().calls);
      save(*run);
      return 0;
    });
    ASSERT_EQ(status, comes_to_the_end ? 0 : fakes::kFaultExit);
    const os::ReplaceCalls fast(GetParam().calls);
    expect_no_torn_step(*run);
    lock_folder(run->path());
    expect_no_torn_step(*run);
    expect_old_or_new_set(*run, false, comes_to_the_end);
    expect_next_save_works(*run);
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Of, EveryCall, testing::ValuesIn(scenarios()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace understudy::store
