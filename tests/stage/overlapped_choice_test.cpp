// What `automatic` chooses.
#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <thread>

#include "os/system.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Trainer;

constexpr std::uint64_t kMiB = 1024 * 1024;

// This thread, and those that it starts, on one processor.
class OneCore {
 public:
  OneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &before_) && CPU_COUNT(&one) == 0) CPU_SET(i, &one);
    }
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OneCore() { sched_setaffinity(0, sizeof before_, &before_); }
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  cpu_set_t before_;
};

std::string choice_for(Stager& stager, const Trainer& trainer) {
  const auto clone = trainer.clone();
  const auto ticket = stager.stage(trainer.state());
  auto snapshot = ticket.wait();
  EXPECT_EQ(fakes::count_torn(snapshot, clone), 0);
  snapshot.close();
  return ticket.capture();
}

// Also where no cores are idle: its pages take many times as long as the copy.
TEST(OverlappedChoiceTest, ANewImageIsFilledBehindTheCall) {
  SKIP_WITHOUT_USERFAULTFD();
  const OneCore one;
  Stager stager;
  const Trainer trainer({160 * kMiB, 100, 3 * kMiB + 8});
  const auto choice = choice_for(stager, trainer);
  EXPECT_TRUE(choice.starts_with("overlapped (")) << choice;
}

TEST(OverlappedChoiceTest, WhatIsCopiedAsSoonAsProtectedIsCopied) {
  SKIP_WITHOUT_USERFAULTFD();
  Stager stager({.huge_pages = true});
  EXPECT_TRUE(choice_for(stager, Trainer({100 * kMiB})).starts_with("blocking (100.0 MiB are"));
}

TEST(OverlappedChoiceTest, WithoutIdleCoresItBlocksAndSaysSo) {
  SKIP_WITHOUT_USERFAULTFD();
  const OneCore one;
  Stager stager;
  const Trainer trainer({160 * kMiB});
  choice_for(stager, trainer);
  const auto choice = choice_for(stager, trainer);
  EXPECT_TRUE(choice.starts_with("blocking (")) << choice;
  EXPECT_NE(choice.find("of 1 cores were idle"), std::string::npos) << choice;
}

TEST(OverlappedChoiceTest, WithIdleCoresItOverlaps) {
  SKIP_WITHOUT_USERFAULTFD();
  if (os::cores_of_this_rank() < 2) GTEST_SKIP() << "one core";
  Stager stager;
  const Trainer trainer({160 * kMiB});
  stager.stage(trainer.state()).wait().close();
  // Others' load only makes it longer.
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const auto ticket = stager.stage(trainer.state());
  EXPECT_TRUE(ticket.capture().starts_with("overlapped (")) << ticket.capture();
}

TEST(OverlappedChoiceTest, WhatIsAskedForIsDone) {
  SKIP_WITHOUT_USERFAULTFD();
  const OneCore one;
  const Trainer trainer({160 * kMiB});
  for (const StagerOptions& options :
       {StagerOptions{.capture = Capture::overlapped}, StagerOptions{.huge_pages = true}}) {
    Stager stager(options);
    for (int i = 0; i < 2; ++i) {
      EXPECT_TRUE(choice_for(stager, trainer).starts_with("overlapped ("));
    }
  }
}

}  // namespace
}  // namespace understudy
