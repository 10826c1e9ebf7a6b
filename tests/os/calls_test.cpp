#include "os/calls.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "fakes/faulty_calls.h"

namespace understudy::os {
namespace {

TEST(Calls, AreTheKernelsUnlessReplaced) {
  EXPECT_EQ(&calls(), &system_calls());
}

TEST(Calls, ReplacementEndsWithItsScope) {
  Calls table = system_calls();
  table.fsync = [](int) {
    errno = EIO;
    return -1;
  };
  {
    const ReplaceCalls replaced(table);
    EXPECT_EQ(calls().fsync(0), -1);
    Calls inner = table;
    const ReplaceCalls again(inner);
    EXPECT_EQ(&calls(), &inner);
  }
  EXPECT_EQ(&calls(), &system_calls());
}

TEST(Calls, EveryOneIsInTheFaultyTable) {
  // A call that tests forget to wrap could not be made to fail: no member of
  // the faulty table is the kernel's, or missing.
  const auto* real = reinterpret_cast<void* const*>(&system_calls());
  const auto* faulty = reinterpret_cast<void* const*>(&fakes::faulty_table());
  for (std::size_t i = 0; i < sizeof(Calls) / sizeof(void*); ++i) {
    EXPECT_NE(faulty[i], nullptr) << "call " << i;
    EXPECT_NE(faulty[i], real[i]) << "call " << i;
  }
}

TEST(FaultyCalls, ReachTheNthCallOnly) {
  const fakes::FaultyCalls faults({.mode = fakes::FaultMode::fail, .nth = 2, .error = EIO});
  struct stat found;
  EXPECT_EQ(calls().fstat(0, &found), 0);
  EXPECT_FALSE(faults.was_reached());
  EXPECT_EQ(calls().fstat(0, &found), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_EQ(calls().fstat(0, &found), 0);
  EXPECT_TRUE(faults.was_reached());
  EXPECT_EQ(faults.log(), (std::vector<std::string>{"fstat", "fstat", "fstat"}));
}

}  // namespace
}  // namespace understudy::os
