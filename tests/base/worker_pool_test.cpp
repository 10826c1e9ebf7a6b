#include "base/worker_pool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/thread.h"
#include "understudy/error.h"

namespace understudy {
namespace {

class WorkerPoolTest : public ::testing::TestWithParam<bool> {};

TEST_P(WorkerPoolTest, RunsEachOnceOnAnyWorker) {
  WorkerPool pool("test", 3, GetParam());
  for (const std::uint64_t count : {0u, 1u, 2u, 1000u}) {
    std::vector<std::atomic<int>> runs(count);
    pool.run(count, [&](std::uint64_t i, int worker) {
      EXPECT_GE(worker, 0);
      EXPECT_LT(worker, 3);
      ++runs[i];
    });
    for (auto& n : runs) EXPECT_EQ(n, 1);
  }
}

TEST_P(WorkerPoolTest, FirstExceptionComesOutAndThePoolLives) {
  WorkerPool pool("test", 3, GetParam());
  EXPECT_THROW(pool.run(100,
                        [](std::uint64_t i, int) {
                          if (i == 5) throw Error(ErrorCode::io, "five");
                        }),
               Error);
  std::atomic<int> n{0};
  pool.run(10, [&](std::uint64_t, int) { ++n; });
  EXPECT_EQ(n, 10);
}

TEST_P(WorkerPoolTest, CallersTakeTurns) {
  WorkerPool pool("test", 2, GetParam());
  std::atomic<int> n{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c) {
    callers.emplace_back([&] {
      for (int k = 0; k < 50; ++k) pool.run(10, [&](std::uint64_t, int) { ++n; });
    });
  }
  for (auto& c : callers) c.join();
  EXPECT_EQ(n, 2000);
}

TEST_P(WorkerPoolTest, IsInertInAForkedChild) {
  WorkerPool pool("test", 2, GetParam());
  pool.run(10, [](std::uint64_t, int) {});
  const auto child = fork();
  if (child == 0) {
    int status = 1;
    try {
      pool.run(2, [](std::uint64_t, int) {});
    } catch (const Error& e) {
      status = e.code() == ErrorCode::closed ? 0 : 2;
    }
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_P(WorkerPoolTest, FewerThreadsDoTheSameWork) {
  for (int first = 1; first <= 4; ++first) {
    WorkerPool pool("test", 4, GetParam());
    const auto run = [&] {
      std::vector<std::atomic<int>> runs(100);
      pool.run(runs.size(), [&](std::uint64_t i, int worker) {
        EXPECT_LT(worker, 4);
        ++runs[i];
      });
      for (auto& n : runs) EXPECT_EQ(n, 1);
    };
    {
      const RefuseThreads refused(first);
      // One that has only others to do the work says so.
      if (GetParam() && first == 1) {
        EXPECT_THROW(run(), Error);
      } else {
        run();
      }
      EXPECT_EQ(refused.refused() > 0, first < 4 || GetParam());
    }
    run();
  }
}

INSTANTIATE_TEST_SUITE_P(Priorities, WorkerPoolTest, ::testing::Bool());

TEST(WorkerPool, ThreadsBlockSignals) {
  WorkerPool pool("test", 2, true);
  std::atomic<int> blocked{0};
  pool.run(2, [&](std::uint64_t, int) {
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, nullptr, &set);
    blocked += sigismember(&set, SIGINT) && sigismember(&set, SIGCHLD);
  });
  EXPECT_EQ(blocked, 2);
}

}  // namespace
}  // namespace understudy
