#include "vm/prefault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "vm/mapping.h"

namespace understudy::vm {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class PrefaultTest : public ::testing::Test {
 protected:
  Mapping mapping_ = Mapping::anonymous(16 * kMiB);
  // Between two huge pages, so that both ends are ragged.
  std::span<std::byte> whole_{mapping_.data() + 5000, 15 * kMiB};
};

TEST_F(PrefaultTest, ChangesNoBytes) {
  Prefault prefault;
  EXPECT_STREQ(prefault.what(), "");
  whole_[3 * kMiB] = std::byte{42};
  for (std::uint64_t at = 0; at < whole_.size(); at += kMiB) {
    prefault.make(whole_.subspan(at, kMiB), whole_);
  }
  EXPECT_EQ(whole_[3 * kMiB], std::byte{42});
  whole_[3 * kMiB] = std::byte{0};
  EXPECT_TRUE(std::ranges::all_of(whole_, [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_THAT(prefault.what(), HasSubstr("new memory in "));
}

TEST_F(PrefaultTest, SmallMemoryGetsSmallPages) {
  Prefault prefault;
  prefault.make(whole_.first(kMiB), whole_.first(kMiB));
  EXPECT_STREQ(prefault.what(), "new memory in small pages");
}

TEST_F(PrefaultTest, WhenHugePagesAreSlowItStopsMakingThem) {
  Prefault prefault(-1ns);  // any page is slower than that
  for (int i = 0; i < 3; ++i) prefault.make(whole_.subspan(i * 2 * kMiB, kMiB), whole_);
  EXPECT_STREQ(prefault.what(), "new memory in huge pages where they fit");
  for (int i = 3; i < 5; ++i) prefault.make(whole_.subspan(i * 2 * kMiB, kMiB), whole_);
  EXPECT_STREQ(prefault.what(), "new memory in small pages, for huge ones were slow");
}

}  // namespace
}  // namespace understudy::vm
