// What a process has captured outlives it, and is resumed from by the next one, or it is not of
// this run and is not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/survivors.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::leave_in_memory;
using fakes::training_state;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SurvivalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fakes::SurvivingRun::is_possible()) GTEST_SKIP() << "/dev/shm is no tmpfs";
  }

  void save_on_disk(std::int64_t step) const {
    Checkpointer ckpt(run_.options());
    ckpt.save(step, training_state(static_cast<int>(step))).wait();
    ckpt.close();
  }

  /// Resumes; the step, and that the state is the one that was saved under it.
  std::int64_t resume(Checkpointer& ckpt, const ResumeOptions& how = {}) const {
    auto state = training_state(99);
    const auto step = ckpt.resume(state, how);
    if (!step) return -1;
    EXPECT_EQ(fingerprint(state), fingerprint(training_state(static_cast<int>(*step))));
    return *step;
  }

  fs::path the_sealed_step() const {
    const auto sealed = run_.sealed();
    EXPECT_THAT(sealed, SizeIs(1));
    return sealed.empty() ? fs::path() : sealed.front();
  }

  fakes::SurvivingRun run_;
};

TEST_F(SurvivalTest, WhatWasSealedIsResumedAndThenWrittenToTheDisk) {
  save_on_disk(3);
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7),
                              {.metadata = Value::dict({{"loss", 0.25}})}));
  EXPECT_FALSE(fs::exists(run_.run / "step-7"));
  {
    Checkpointer ckpt(run_.options());
    EXPECT_EQ(resume(ckpt), 7);
    EXPECT_EQ(ckpt.resumed()->source, "memory");
    EXPECT_THAT(ckpt.resumed()->skipped, IsEmpty());
    EXPECT_TRUE(ckpt.wait());
    EXPECT_THAT(ckpt.steps(), ElementsAre(3, 7));
    ckpt.close();
  }
  EXPECT_THAT(run_.left(), IsEmpty());
  EXPECT_TRUE(verify(run_.run).is_whole());
  Checkpointer ckpt({.directory = run_.run});
  EXPECT_EQ(resume(ckpt), 7);
  EXPECT_EQ(ckpt.restore().metadata.at("loss").as_floating(), 0.25);
}

// The step that is written then has the same form as any: what other tools see under its names.
TEST_F(SurvivalTest, WhatIsWrittenThenIsWhatTheSaveWouldHaveWritten) {
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  const auto by_save = run_.disk / "other";
  Checkpointer({.directory = by_save}).save(7, training_state(7)).wait();
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 7);
  ckpt.close();
  const std::string shard = "step-7/shard-00000-of-00001.safetensors";
  EXPECT_EQ(fakes::read_text(run_.run / shard), fakes::read_text(by_save / shard));
}

TEST_F(SurvivalTest, ACleanEndLeavesNothing) {
  {
    Checkpointer ckpt(run_.options());
    for (int step : {1, 2, 3}) {
      const auto ticket = ckpt.save(step, training_state(step));
      EXPECT_EQ(fakes::wait_sealed(ticket), "sealed");
      EXPECT_THAT(run_.sealed(), SizeIs(1)) << "the newest alone";
      EXPECT_GT(ticket.metrics().sealed_s, 0);
      EXPECT_THAT(ticket.metrics().memory, HasSubstr("survives"));
    }
  }
  EXPECT_THAT(run_.left(), IsEmpty());
  Checkpointer ckpt({.directory = run_.run});
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2, 3));
  EXPECT_EQ(resume(ckpt), 3);
}

TEST_F(SurvivalTest, WhatCouldNotBeWrittenStaysForTheNextRun) {
  save_on_disk(1);
  {
    Checkpointer ckpt(run_.options());
    EXPECT_EQ(resume(ckpt), 1);
    const fakes::FaultyCalls no_disk(
        {.mode = fakes::FaultMode::fail, .error = EIO, .call = "fsync"});
    const auto ticket = ckpt.save(2, training_state(2));
    expect_error(ErrorCode::io, "", [&] { ticket.wait(); });
    EXPECT_EQ(ticket.metrics().survival, "sealed");
    ckpt.close();
  }
  EXPECT_THAT(run_.sealed(), SizeIs(1));
  EXPECT_FALSE(fs::exists(run_.run / "step-2"));
  {
    Checkpointer ckpt(run_.options());
    EXPECT_EQ(resume(ckpt), 2);
    EXPECT_EQ(ckpt.resumed()->source, "memory");
  }
  EXPECT_THAT(run_.left(), IsEmpty()) << "now it is on the disk";
  Checkpointer ckpt({.directory = run_.run});
  EXPECT_EQ(resume(ckpt), 2);
}

TEST_F(SurvivalTest, SourceChooses) {
  save_on_disk(3);
  {
    Checkpointer ckpt(run_.options());
    auto state = training_state(99);
    expect_error(ErrorCode::not_found, "nothing whole",
                 [&] { ckpt.resume(state, {.source = Source::memory}); });
    expect_error(ErrorCode::not_found, "nothing whole",
                 [&] { ckpt.restore({.source = Source::memory}); });
    EXPECT_EQ(resume(ckpt), 3);
    EXPECT_EQ(ckpt.resumed()->source, "disk");
  }
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt, {.source = Source::disk}), 3);
  EXPECT_EQ(ckpt.resumed()->source, "disk");
  const auto found = ckpt.restore();
  EXPECT_EQ(found.source, "memory");
  EXPECT_EQ(fingerprint(found.state), fingerprint(training_state(7)));
  EXPECT_EQ(ckpt.restore({.source = Source::disk}).step, 3);
  EXPECT_EQ(ckpt.restore({.step = 3}).source, "disk");
  EXPECT_EQ(resume(ckpt, {.source = Source::memory}), 7);
  EXPECT_EQ(ckpt.resumed()->source, "memory");

  Checkpointer without({.directory = run_.run});
  auto state = training_state(99);
  expect_error(ErrorCode::invalid, "without survive",
               [&] { without.resume(state, {.source = Source::memory}); });
}

TEST_F(SurvivalTest, ANewerStepOnTheDiskIsTaken) {
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 7);
  ckpt.save(9, training_state(9)).wait();
  EXPECT_EQ(resume(ckpt), 9);
  EXPECT_EQ(ckpt.resumed()->source, "memory") << "it is in both, and memory is faster";
}

TEST_F(SurvivalTest, ARollbackGivesUpWhatIsNewerInMemory) {
  save_on_disk(3);
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  {
    Checkpointer ckpt(run_.options());
    EXPECT_EQ(resume(ckpt, {.step = 3, .discard_newer = true}), 3);
    EXPECT_THAT(run_.sealed(), IsEmpty());
  }
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 3);
}

TEST_F(SurvivalTest, AMisfitChangesNothing) {
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  Checkpointer ckpt(run_.options());
  auto state = Value::dict({{"other", 1}});
  expect_error(ErrorCode::invalid, "nothing was changed", [&] { ckpt.resume(state); });
  EXPECT_EQ(resume(ckpt), 7);
}

TEST_F(SurvivalTest, NothingIsLostByAnotherEndBeforeItIsOnTheDisk) {
  ASSERT_TRUE(leave_in_memory(run_.options(), 7, training_state(7)));
  for (int again = 0; again < 3; ++again) {
    EXPECT_EQ(fakes::in_child([&] {
                auto* const ckpt = new Checkpointer(run_.options());
                ckpt->prewarm(training_state(1)).wait();  // clears leftovers, which syncs
                const fakes::Gate no_fsync;
                auto state = training_state(99);
                const bool is_resumed = ckpt->resume(state) == 7;
                _exit(is_resumed && !fs::exists(run_.run / "step-7") ? 0 : 1);
                return 1;
              }),
              0);
  }
  Checkpointer ckpt(run_.options());
  EXPECT_EQ(resume(ckpt), 7);
}

TEST_F(SurvivalTest, TheNextRunClearsWhatADeadOneWasFilling) {
  for (int kill = 0; kill < 20; ++kill) {
    ASSERT_TRUE(leave_in_memory(run_.options(), 10 + kill, training_state(kill)));
    EXPECT_THAT(run_.sealed(), SizeIs(1)) << "what was before it is given up";
    EXPECT_LE(run_.left().size(), 12u);
  }
  Checkpointer ckpt(run_.options());
  auto state = training_state(99);
  EXPECT_EQ(ckpt.resume(state), 29);
  ckpt.close();
  EXPECT_THAT(run_.left(), IsEmpty());
}

TEST_F(SurvivalTest, AForkedChildTakesNothingWithIt) {
  Checkpointer ckpt(run_.options());
  const auto ticket = ckpt.save(1, training_state(1));
  EXPECT_EQ(fakes::wait_sealed(ticket), "sealed");
  const auto before = run_.left();
  EXPECT_EQ(fakes::in_child([&] {
              { const Checkpointer gone = std::move(ckpt); }
              return 0;
            }),
            0);
  EXPECT_EQ(run_.left(), before);
}

TEST_F(SurvivalTest, OptionsThatMakeNoSenseAreRefused) {
  auto options = run_.options();
  options.images = 1;
  expect_error(ErrorCode::invalid, "images=2", [&] { Checkpointer{options}; });
}

}  // namespace
}  // namespace understudy
