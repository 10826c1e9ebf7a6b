#include "stage/idle_cores.h"

#include <gtest/gtest.h>

namespace understudy::stage {
namespace {

TEST(IdleCoresTest, AreWhatTheProcessDidNotUseSinceTheLastQuestion) {
  IdleCores idle(4, {100, 50});
  EXPECT_DOUBLE_EQ(idle.since_last({110, 50}), 4);
  EXPECT_DOUBLE_EQ(idle.since_last({120, 65}), 2.5);
  EXPECT_DOUBLE_EQ(idle.since_last({130, 105}), 0);
}

TEST(IdleCoresTest, NeverLessThanNoneAndNeverMoreThanThereAre) {
  IdleCores idle(2, {0, 0});
  EXPECT_DOUBLE_EQ(idle.since_last({1, 2.5}), 0);
  EXPECT_DOUBLE_EQ(idle.since_last({1, 2.5}), 0) << "no time has passed";
  EXPECT_DOUBLE_EQ(idle.since_last({2, 2.4}), 2);
}

TEST(IdleCoresTest, ClocksGoOn) {
  const auto before = IdleCores::Clocks::now();
  volatile double work = 0;
  auto after = before;
  while (after.processor <= before.processor) {
    work = work + 1;
    after = IdleCores::Clocks::now();
  }
  EXPECT_GT(after.wall, before.wall);
}

}  // namespace
}  // namespace understudy::stage
