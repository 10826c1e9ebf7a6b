#include "os/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fakes/temporary_folder.h"

namespace understudy::os {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::ptrdiff_t open_descriptors() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), {});
}

TEST(Probe, DirectIoLeavesNothing) {
  const fakes::TemporaryFolder folder;
  const auto found = probe_direct_io(folder.path());
  EXPECT_THAT(found.detail, HasSubstr(folder.path().string()));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Probe, DirectIoNeedsAFolder) {
  const fakes::TemporaryFolder folder;
  const auto found = probe_direct_io(folder / "nowhere");
  EXPECT_FALSE(found.is_available);
  EXPECT_THAT(found.detail, HasSubstr("No such file"));
}

// Kernel file systems that take no files, as root sees it too.
TEST(Probe, DirectIoInAFolderThatTakesNoFiles) {
  const auto found = probe_direct_io("/proc");
  EXPECT_FALSE(found.is_available);
  EXPECT_THAT(found.detail, HasSubstr("/proc"));
}

TEST(Probe, AllSayWhatTheyFound) {
  for (const auto& found : {probe_io_uring(), probe_cores(), probe_memory()}) {
    EXPECT_NE(found.detail, "");
  }
}

TEST(Probe, NothingStaysOpen) {
  const fakes::TemporaryFolder folder;
  const auto before = open_descriptors();
  probe_io_uring();
  probe_direct_io(folder.path());
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace understudy::os
