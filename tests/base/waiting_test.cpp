#include "base/waiting.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "base/ticket.h"

namespace understudy {
namespace {

struct Interrupt : std::runtime_error {
  Interrupt() : std::runtime_error("interrupt") {}
};

TEST(WaitingTest, LooksAroundWithoutTheLockUntilItIsReady) {
  std::mutex mutex;
  std::condition_variable changed;
  int looks = 0;
  const WhileWaiting waiting([&] {
    const std::lock_guard is_free(mutex);
    ++looks;
  });
  std::unique_lock lock(mutex);
  EXPECT_TRUE(wait_awake(lock, changed, [&] { return looks == 3; }));
  EXPECT_TRUE(lock.owns_lock());
}

TEST(WaitingTest, EndsByWhatTheInnermostThrows) {
  std::mutex mutex;
  std::condition_variable changed;
  const WhileWaiting outer([] { FAIL() << "not while there is another"; });
  {
    const WhileWaiting inner([] { throw Interrupt(); });
    std::unique_lock lock(mutex);
    EXPECT_THROW(wait_awake(lock, changed, [] { return false; }), Interrupt);
    EXPECT_FALSE(lock.owns_lock());
  }
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST(WaitingTest, TakesNoLongerThanItMay) {
  std::mutex mutex;
  std::condition_variable changed;
  int looks = 0;
  const WhileWaiting waiting([&] { ++looks; });
  std::unique_lock lock(mutex);
  const auto never = [] { return false; };
  EXPECT_FALSE(wait_awake(lock, changed, never, Timeout(0)));
  EXPECT_FALSE(wait_awake(lock, changed, never, Timeout(-1)));
  EXPECT_EQ(looks, 0) << "who does not wait does not look around";
  EXPECT_FALSE(wait_awake(lock, changed, never, Timeout(0.12)));
  EXPECT_GE(looks, 1);
  EXPECT_TRUE(lock.owns_lock());
}

TEST(WaitingTest, EveryThreadHasItsOwn) {
  const WhileWaiting waiting([] {});
  std::thread([] { EXPECT_FALSE(WaitLook::is_wanted()); }).join();
  EXPECT_TRUE(WaitLook::is_wanted());
}

TEST(WaitingTest, AMutexIsWaitedForAwake) {
  AwakeMutex mutex;
  mutex.lock();
  std::thread other([&] {
    const WhileWaiting waiting([] { throw Interrupt(); });
    EXPECT_THROW(mutex.lock(), Interrupt);
  });
  other.join();
  int looks = 0;
  {
    const WhileWaiting waiting([&] {
      if (++looks == 2) mutex.unlock();
    });
    mutex.lock();
  }
  EXPECT_EQ(looks, 2);
  mutex.unlock();
}

TEST(WaitingTest, TicketsAreWaitedForAwake) {
  const auto state = std::make_shared<TicketState>();
  const TicketBase ticket(state);
  {
    const WhileWaiting waiting([] { throw Interrupt(); });
    EXPECT_THROW(ticket.wait_done_for({}), Interrupt);
    EXPECT_THROW(ticket.wait_captured_for(Timeout(1e12)), Interrupt);
  }
  const WhileWaiting waiting([&] { state->set_done(); });
  EXPECT_TRUE(ticket.wait_done_for({}));
}

}  // namespace
}  // namespace understudy
