#include "store/pace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <latch>
#include <thread>

namespace understudy::store {
namespace {

using std::chrono::seconds;

constexpr Pace::Clock::time_point kNow{seconds(1000)};

TEST(Pace, BytesGoWhenTheirTimeHasPassed) {
  Pace pace(10);
  EXPECT_EQ(pace.book(20, kNow), kNow + seconds(2));
  EXPECT_EQ(pace.book(10, kNow), kNow + seconds(3));
  EXPECT_EQ(pace.book(10, kNow + seconds(1)), kNow + seconds(4));
}

TEST(Pace, PauseIsNotMadeUpFor) {
  Pace pace(10);
  pace.book(20, kNow);
  EXPECT_EQ(pace.book(10, kNow + seconds(100)), kNow + seconds(101));
}

TEST(Pace, LiftedLimitIsNoneUntilItIsRestored) {
  Pace pace(10);
  pace.book(1000, kNow);
  pace.lift();
  pace.lift();
  EXPECT_EQ(pace.book(20, kNow), kNow);
  pace.restore();
  EXPECT_EQ(pace.book(20, kNow), kNow) << "the other still lifts it";
  pace.restore();
  EXPECT_EQ(pace.book(20, kNow), kNow + seconds(2)) << "without debts";
}

TEST(Pace, LiftWakesWhoWaits) {
  constexpr unsigned kLimitSeconds = 60;  // instead of hours
  alarm(kLimitSeconds);
  Pace pace(1);
  std::latch is_asleep(1);
  std::thread waiting([&] {
    is_asleep.count_down();
    pace.wait(100'000);
  });
  is_asleep.wait();
  pace.lift();
  waiting.join();
  pace.restore();
  alarm(0);
}

TEST(Pace, WithoutARateNothingWaits) {
  Pace pace(0);
  EXPECT_EQ(pace.book(1 << 30, kNow), kNow);
  EXPECT_EQ(pace.book(1 << 30, kNow), kNow);
}

}  // namespace
}  // namespace understudy::store
