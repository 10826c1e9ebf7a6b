#include "os/fresh_pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "os/fresh_memory.h"

namespace understudy::os {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

class FreshPagesTest : public ::testing::Test {
 protected:
  AnonymousMapping mapping_{16 * kMiB};
  // Between two huge pages, so that both ends are ragged.
  std::span<std::byte> whole_{mapping_.data() + 5000, 15 * kMiB};
};

TEST_F(FreshPagesTest, ChangesNoBytes) {
  FreshPages pages;
  EXPECT_STREQ(pages.what(), "");
  whole_[3 * kMiB] = std::byte{42};
  for (std::uint64_t at = 0; at < whole_.size(); at += kMiB) {
    pages.make(whole_.subspan(at, kMiB), whole_);
  }
  EXPECT_EQ(whole_[3 * kMiB], std::byte{42});
  whole_[3 * kMiB] = std::byte{0};
  EXPECT_TRUE(std::ranges::all_of(whole_, [](std::byte b) { return b == std::byte{0}; }));
  EXPECT_THAT(pages.what(), HasSubstr("new memory in "));
}

TEST_F(FreshPagesTest, SmallMemoryGetsSmallPages) {
  FreshPages pages;
  pages.make(whole_.first(kMiB), whole_.first(kMiB));
  EXPECT_STREQ(pages.what(), "new memory in small pages");
}

TEST_F(FreshPagesTest, WhenHugePagesAreSlowItStopsMakingThem) {
  FreshPages pages(-1ns);  // any page is slower than that
  for (int i = 0; i < 3; ++i) pages.make(whole_.subspan(i * 2 * kMiB, kMiB), whole_);
  EXPECT_STREQ(pages.what(), "new memory in huge pages where they fit");
  for (int i = 3; i < 5; ++i) pages.make(whole_.subspan(i * 2 * kMiB, kMiB), whole_);
  EXPECT_STREQ(pages.what(), "new memory in small pages, for huge ones were slow");
}

}  // namespace
}  // namespace understudy::os
