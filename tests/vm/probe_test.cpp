#include "vm/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace understudy::vm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::ptrdiff_t open_descriptors() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), {});
}

TEST(Probe, SharedMemoryIsTheGroundOfImages) {
  const auto found = probe_shared_memory();
  EXPECT_TRUE(found.is_available) << found.detail;
  EXPECT_THAT(found.detail, HasSubstr("/dev/shm"));
}

TEST(Probe, AllSayWhatTheyFound) {
  for (const auto& found : {probe_huge_pages(), probe_userfaultfd()}) EXPECT_NE(found.detail, "");
}

TEST(Probe, NothingStaysOpen) {
  const auto before = open_descriptors();
  probe_userfaultfd();
  probe_shared_memory();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace understudy::vm
