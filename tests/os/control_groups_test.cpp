#include "os/control_groups.h"

#include <gtest/gtest.h>

#include <fstream>

#include "fakes/temporary_folder.h"

namespace understudy::os {
namespace {

namespace fs = std::filesystem;

class ControlGroupsTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    const auto path = mount_.path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  GroupLimits limits(const std::string& membership) {
    return limits_of_groups(membership, mount_.path().string());
  }

  const GroupLimits none_;
  fakes::TemporaryFolder mount_;
};

TEST_F(ControlGroupsTest, ThereMayBeNone) {
  for (const char* text : {"", "nonsense", "0::/\n", "0::\n", "::\n", "4:memory:/a/b\n"}) {
    EXPECT_EQ(limits(text).memory, none_.memory) << text;
    EXPECT_EQ(limits(text).cores, none_.cores) << text;
  }
}

TEST_F(ControlGroupsTest, Version2TakesTheLeastOfAllLevels) {
  write("a/b/memory.max", "1000");
  write("a/b/memory.current", "900");
  write("a/b/memory.stat", "anon 1\ninactive_file 300\n");
  write("a/memory.max", "max");
  write("a/memory.current", "5");
  write("a/cpu.max", "250000 100000");
  write("cpu.max", "max 100000");
  EXPECT_EQ(limits("0::/a/b\n").memory, 400U);
  EXPECT_EQ(limits("0::/a/b\n").cores, 3);
  EXPECT_EQ(limits("0::/a\n").memory, none_.memory);
}

const char* const kVersion1 =
    "12:memory:/docker/abc\n11:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n0::/\n";

TEST_F(ControlGroupsTest, Version1) {
  write("memory/docker/abc/memory.limit_in_bytes", "5000");
  write("memory/docker/abc/memory.usage_in_bytes", "4800");
  write("memory/docker/abc/memory.stat", "cache 700\ntotal_inactive_file 600");
  write("memory/memory.limit_in_bytes", "9223372036854771712");
  write("memory/memory.usage_in_bytes", "123");
  write("cpu/docker/abc/cpu.cfs_quota_us", "150000");
  write("cpu/docker/abc/cpu.cfs_period_us", "100000");
  write("cpu/cpu.cfs_quota_us", "-1");
  write("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(limits(kVersion1).memory, 800U);
  EXPECT_EQ(limits(kVersion1).cores, 2);
}

TEST_F(ControlGroupsTest, Version1InAContainerThatDoesNotSeeItsPath) {
  write("memory/memory.limit_in_bytes", "5000");
  write("memory/memory.usage_in_bytes", "6000");
  EXPECT_EQ(limits(kVersion1).memory, 0U);
}

}  // namespace
}  // namespace understudy::os
