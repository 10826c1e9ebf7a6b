#include "store/pace.h"

#include <gtest/gtest.h>

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

TEST(Pace, WithoutARateNothingWaits) {
  Pace pace(0);
  EXPECT_EQ(pace.book(1 << 30, kNow), kNow);
  EXPECT_EQ(pace.book(1 << 30, kNow), kNow);
}

}  // namespace
}  // namespace understudy::store
