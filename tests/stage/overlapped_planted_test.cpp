// Faults planted under overlapped capture. The comparison of the stress test must
// see each of them; and the library's own check must turn each into an error.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "fakes/expect_error.h"
#include "fakes/planted_protection.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Limit;
using fakes::PlantedProtection;
using fakes::Trainer;

constexpr std::uint64_t kPage = 4096, kMiB = std::uint64_t{1} << 20;
const std::vector<std::uint64_t> kOneTensor = {8 * kMiB};

std::uintptr_t address(const Tensor& t) {
  return reinterpret_cast<std::uintptr_t>(t.data());
}

// Captures while the trainer writes; the snapshot, which may be torn.
struct Torn {
  int tensors = 0;
  std::exception_ptr failure;
};

Torn capture_under_fire(Trainer& trainer, Stager& stager) {
  const auto clone = trainer.clone();
  const auto ticket = stager.stage(trainer.state());
  EXPECT_TRUE(ticket.capture().starts_with("overlapped")) << ticket.capture();
  trainer.step(7, 2);
  ticket.wait_done_for({});
  if (ticket.exception()) return {0, ticket.exception()};
  return {fakes::count_torn(ticket.wait(), clone), {}};
}

// Both faults let a write through before the copy; this one waits for it.
class SeenWrite {
 public:
  explicit SeenWrite(const std::byte* at) : at_(at), before_(now()) {}
  void wait() const {
    while (now() == before_) std::this_thread::yield();
  }

 private:
  // By a system call, as the library reads it: no order is meant.
  std::uint64_t now() const {
    std::uint64_t word = 0;
    const iovec from{const_cast<std::byte*>(at_), sizeof word}, to{&word, sizeof word};
    os::system_calls().write_own_memory(&from, &to);
    return word;
  }
  const std::byte* at_;
  std::uint64_t before_;
};

// A page in the middle is not protected; it is written before anything is copied.
void leave_a_page_open(PlantedProtection& planted, const Trainer& trainer, std::atomic<int>& hits) {
  const auto open = (address(trainer.tensor(0)) / kPage + 700) * kPage;
  planted.on_protect = [open, &hits](uffdio_range& range) {
    if (range.start <= open && open < range.start + range.len) {
      range.len = open - range.start;  // and nothing behind it
      ++hits;
    }
    return range.len == 0 ? EINVAL : 0;
  };
  planted.before_copy = [seen = SeenWrite(reinterpret_cast<std::byte*>(open))](const std::byte*) {
    seen.wait();
  };
}

// The chunk is lifted before it is copied, and written in between.
void lift_too_early(PlantedProtection& planted, const Trainer& trainer, std::atomic<int>& hits) {
  const auto block = (address(trainer.tensor(0)) / (2 * kMiB) + 1) * (2 * kMiB);
  planted.before_copy =
      [block, &planted, &hits,
       seen = SeenWrite(reinterpret_cast<std::byte*>(block))](const std::byte* from) {
        if (reinterpret_cast<std::uintptr_t>(from) != block) return;
        planted.lift(block, 2 * kMiB);
        ++hits;
        seen.wait();
      };
}

using Plant = void (*)(PlantedProtection&, const Trainer&, std::atomic<int>&);

class PlantedFault : public testing::TestWithParam<Plant> {};

TEST_P(PlantedFault, IsSeenByTheComparison) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  std::atomic<int> hits = 0;
  PlantedProtection planted;
  planted.says_protected = true;
  Trainer trainer(kOneTensor);
  GetParam()(planted, trainer, hits);
  Stager stager({.capture = Capture::overlapped});
  const auto torn = capture_under_fire(trainer, stager);
  EXPECT_GT(hits, 0);
  EXPECT_FALSE(torn.failure);
  EXPECT_EQ(torn.tensors, 1) << "the comparison did not see a torn snapshot";
}

TEST_P(PlantedFault, IsAnErrorThatNamesTheTensor) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  std::atomic<int> hits = 0;
  PlantedProtection planted;
  Trainer trainer(kOneTensor);
  GetParam()(planted, trainer, hits);
  Stager stager({.capture = Capture::overlapped});
  const auto torn = capture_under_fire(trainer, stager);
  EXPECT_GT(hits, 0);
  EXPECT_GT(planted.asked, 0);
  ASSERT_TRUE(torn.failure);
  fakes::expect_error(ErrorCode::invalid, "'t0'", [&] { std::rethrow_exception(torn.failure); });
}

INSTANTIATE_TEST_SUITE_P(Overlapped, PlantedFault,
                         testing::Values(leave_a_page_open, lift_too_early));

TEST(OverlappedPlantedTest, MemoryMappedAnewIsLookedAtAgain) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  std::atomic<int> refusals = 1;
  PlantedProtection planted;
  planted.on_protect = [&](uffdio_range&) { return refusals-- > 0 ? ENOENT : 0; };
  Trainer trainer(kOneTensor);
  Stager stager({.capture = Capture::overlapped});
  const auto torn = capture_under_fire(trainer, stager);
  EXPECT_LE(refusals, 0);
  EXPECT_FALSE(torn.failure);
  EXPECT_EQ(torn.tensors, 0);
}

TEST(OverlappedPlantedTest, ProtectionThatIsRefusedMeansBlocking) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  std::atomic<int> refusals = 0;
  PlantedProtection planted;
  planted.on_protect = [&](uffdio_range&) { return ++refusals > 0 ? ENOENT : 0; };
  Trainer trainer({8 * kMiB, 32 * kMiB});
  Stager stager({.capture = Capture::overlapped});
  const auto clone = trainer.clone();
  const auto ticket = stager.stage(trainer.state());
  trainer.step(1, 2);  // nothing is left protected
  EXPECT_GE(refusals, 2);
  EXPECT_TRUE(ticket.capture().starts_with("blocking (memory under the state")) << ticket.capture();
  EXPECT_EQ(fakes::count_torn(ticket.wait(), clone), 0);
}

// Holds up a thread of the fence until the test lets it go.
class Gate {
 public:
  void hold() {
    ++held_;
    held_.notify_all();
    is_open_.wait(false);
  }
  void wait_for_one() {
    while (held_ == 0) held_.wait(0);
  }
  void open() {
    is_open_ = true;
    is_open_.notify_all();
  }

 private:
  std::atomic<int> held_{0};
  std::atomic<bool> is_open_{false};
};

// They do once late threads have answered. Until then those may come to what is planted.
void wait_until_captures_overlap(Stager& stager, Trainer& trainer) {
  stage::PageFence::Share()->set_late_ticks(100'000);  // on a busy machine all of them are late
  for (;;) {
    auto again = stager.stage(trainer.state());
    const auto text = again.capture();
    again.wait().close();
    if (text.starts_with("overlapped")) break;
  }
}

TEST(OverlappedPlantedTest, CopiersThatAreLateAreGivenUpAndTheTrainerGoesOn) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Gate gate;
  PlantedProtection planted;
  planted.before_copy = [&](const std::byte*) { gate.hold(); };
  Trainer trainer({40 * kMiB});
  Stager stager({.capture = Capture::overlapped});
  stage::PageFence::Share()->set_late_ticks(3);
  auto ticket = stager.stage(trainer.state());
  trainer.step(1, 3);  // waits for pages that nobody copies, until the watch lifts them
  fakes::expect_error(ErrorCode::timeout, "did not go on", [&] { ticket.wait(); });
  // The late threads may still write into the image: it is not given to others.
  const auto clone = trainer.clone();
  const auto next = stager.stage(trainer.state());
  EXPECT_TRUE(next.capture().starts_with("blocking (threads of an earlier")) << next.capture();
  EXPECT_EQ(fakes::count_torn(next.wait(), clone), 0);
  gate.open();
  wait_until_captures_overlap(stager, trainer);
}

TEST(OverlappedPlantedTest, AServerThatIsLateHoldsNobody) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Gate gate;
  PlantedProtection planted;
  planted.before_serving = [&] { gate.hold(); };
  Trainer trainer({40 * kMiB});
  Stager stager({.capture = Capture::overlapped});
  const auto clone = trainer.clone();
  auto ticket = stager.stage(trainer.state());
  gate.wait_for_one();
  trainer.step(1, 3);
  // The copiers lift what they copy, whoever waits for it.
  EXPECT_EQ(fakes::count_torn(ticket.wait(), clone), 0);
  EXPECT_EQ(ticket.metrics().faults, 0U);
  gate.open();
  wait_until_captures_overlap(stager, trainer);
}

TEST(OverlappedPlantedTest, NobodyCopiesAndNobodyServesAndTheTrainerGoesOn) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Gate gate;
  PlantedProtection planted;
  planted.before_serving = [&] { gate.hold(); };
  planted.before_copy = [&](const std::byte*) { gate.hold(); };
  Trainer trainer({40 * kMiB});
  Stager stager({.capture = Capture::overlapped});
  stage::PageFence::Share()->set_late_ticks(3);
  auto ticket = stager.stage(trainer.state());
  trainer.step(1, 3);
  fakes::expect_error(ErrorCode::timeout, "did not go on", [&] { ticket.wait(); });
  gate.open();
  wait_until_captures_overlap(stager, trainer);
}

}  // namespace
}  // namespace understudy
