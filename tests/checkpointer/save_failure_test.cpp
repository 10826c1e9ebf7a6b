// What a save cannot do, and what is left of it then: nothing, or a word about it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "os/calls.h"
#include "understudy/checkpointer.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::training_state;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SaveFailureTest : public ::testing::Test {
 protected:
  fakes::TemporaryFolder folder_;
};

TEST_F(SaveFailureTest, WhatRetentionCannotRemoveIsToldByTheTicketAndByClose) {
  Checkpointer ckpt({.directory = folder_ / "run", .keep = 1});
  ckpt.save(1, training_state(1)).wait();
  auto table = os::system_calls();
  table.renameat = [](int from_dir, const char* from, int to_dir, const char* to) {
    if (from != std::string("step-1")) return ::renameat(from_dir, from, to_dir, to);
    errno = EPERM;
    return -1;
  };
  os::ReplaceCalls fault(table);
  std::string told;
  for (const int step : {2, 3, 4}) {
    const auto ticket = ckpt.save(step, training_state(step));
    ticket.wait();
    told = ticket.metrics().unremoved;
  }
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 4));
  EXPECT_THAT(told, AllOf(HasSubstr("step-1"), HasSubstr("Operation not permitted")));
  EXPECT_TRUE(ckpt.wait());
  expect_error(ErrorCode::io, "are saved, but " + told, [&] { ckpt.close(); });
  EXPECT_NO_THROW(ckpt.close());
}

TEST_F(SaveFailureTest, WhatRetentionTakesIsNoPartOfTheTimeUntilAStepIsDurable) {
  static constexpr auto kRemoval = std::chrono::milliseconds(50);
  Checkpointer ckpt({.directory = folder_ / "run", .keep = 1});
  ckpt.save(1, training_state(1)).wait();
  auto table = os::system_calls();
  table.unlinkat = [](int dir, const char* path, int flags) {
    std::this_thread::sleep_for(kRemoval);
    return ::unlinkat(dir, path, flags);
  };
  os::ReplaceCalls slow(table);
  const auto begin = std::chrono::steady_clock::now();
  const auto ticket = ckpt.save(2, training_state(2));
  ticket.wait();
  const std::chrono::duration<double> all = std::chrono::steady_clock::now() - begin;
  EXPECT_THAT(ckpt.steps(), ElementsAre(2));
  EXPECT_LT(std::chrono::duration<double>(ticket.metrics().durable_s), all - kRemoval);
}

TEST_F(SaveFailureTest, SaveThatTheSystemRefusesAThreadHasNotHappened) {
  const auto run = folder_.path() / "run";
  fs::create_directory(run);
  fs::permissions(folder_.path(), fs::perms(0777));
  fs::permissions(run, fs::perms(0777));
  EXPECT_EQ(fakes::in_child([&] {
              alarm(60);
              constexpr uid_t kNobody = 65534;  // root may have as many threads as it likes
              if (geteuid() == 0 && setuid(kNobody) != 0) return 1;
              Checkpointer ckpt({.directory = run, .capture = Capture::blocking, .threads = 1});
              rlimit before{};
              getrlimit(RLIMIT_NPROC, &before);
              const rlimit none{0, before.rlim_max};
              setrlimit(RLIMIT_NPROC, &none);
              expect_error(ErrorCode::no_space, "cannot start the thread",
                           [&] { ckpt.save(1, training_state(1)); });
              setrlimit(RLIMIT_NPROC, &before);
              ckpt.save(1, training_state(1)).wait();
              ckpt.save(2, training_state(2));
              ckpt.close();
              EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2));
              return HasFailure() ? 2 : 0;
            }),
            0);
}

}  // namespace
}  // namespace understudy
