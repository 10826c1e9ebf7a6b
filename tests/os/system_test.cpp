#include "os/system.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace understudy::os {
namespace {

TEST(CopyingThreads, AreSharedAmongTheRanksOfAMachine) {
  unsetenv("LOCAL_WORLD_SIZE");
  const int alone = copying_threads();
  EXPECT_EQ(alone, std::min(usable_cores(), 16));
  setenv("LOCAL_WORLD_SIZE", "2", 1);
  EXPECT_EQ(copying_threads(), std::max(1, std::min(usable_cores() / 2, 16)));
  setenv("LOCAL_WORLD_SIZE", "100000", 1);
  EXPECT_EQ(copying_threads(), 1);
  for (const char* nonsense : {"", "many", "-4", "0"}) {
    setenv("LOCAL_WORLD_SIZE", nonsense, 1);
    EXPECT_EQ(copying_threads(), alone) << nonsense;
  }
  unsetenv("LOCAL_WORLD_SIZE");
}

TEST(CoresOfThisRank, AreAShareOfTheUsableOnes) {
  setenv("LOCAL_WORLD_SIZE", "2", 1);
  EXPECT_EQ(cores_of_this_rank(), std::max(1, usable_cores() / 2));
  setenv("LOCAL_WORLD_SIZE", "100000", 1);
  EXPECT_EQ(cores_of_this_rank(), 1);
  unsetenv("LOCAL_WORLD_SIZE");
  EXPECT_EQ(cores_of_this_rank(), usable_cores());
}

TEST(ShareOfThisRank, LeavesTwoThreadsForTheDisk) {
  unsetenv("LOCAL_WORLD_SIZE");
  EXPECT_EQ(share_of_this_rank(8), 8);
  setenv("LOCAL_WORLD_SIZE", "2", 1);
  EXPECT_EQ(share_of_this_rank(8), 4);
  EXPECT_EQ(share_of_this_rank(1), 1);
  setenv("LOCAL_WORLD_SIZE", "100000", 1);
  EXPECT_EQ(share_of_this_rank(8), 2);
  unsetenv("LOCAL_WORLD_SIZE");
}

}  // namespace
}  // namespace understudy::os
