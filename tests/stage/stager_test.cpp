#include "understudy/stager.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "fakes/cuda/use_fake_cuda.h"
#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/states.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::dense;
using fakes::fingerprint;
using fakes::training_state;

TEST(StagerTest, SnapshotHoldsTheStateOfTheCall) {
  Stager stager;
  const auto state = training_state(3);
  const auto before = fingerprint(state);
  const auto snapshot = stager.stage(state).wait();
  std::memset(state.at("model").at("embed.weight").as_tensor().data(), 0, 100);
  EXPECT_EQ(fingerprint(snapshot.state()), before);
}

TEST(StagerTest, AliasesShareBytesInTheSnapshot) {
  Stager stager;
  const auto got = stager.stage(training_state(3)).wait().state();
  const auto& model = got.at("model");
  model.at("embed.weight").as_tensor().data()[4] = std::byte{77};
  EXPECT_EQ(std::to_integer<int>(model.at("head.weight").as_tensor().data()[4]), 77);
  EXPECT_EQ(dense(model.at("transposed").as_tensor())[4 * 300], 77);
}

TEST(StagerTest, WritingToAStateChangesNeitherSnapshotNorOtherStates) {
  Stager stager;
  const auto snapshot = stager.stage(training_state(3)).wait();
  const auto expected = fingerprint(snapshot.state());
  const auto mine = snapshot.state();
  std::memset(mine.at("model").at("bias").as_tensor().data(), 1, 10);
  EXPECT_EQ(fingerprint(snapshot.state()), expected);
}

TEST(StagerTest, LaterStagesLeaveHeldSnapshotsAlone) {
  Stager stager({.images = 2, .when_busy = WhenBusy::error});
  const auto first = stager.stage(training_state(1)).wait();
  const auto expected = fingerprint(first.state());
  for (int i = 2; i < 6; ++i) {
    auto next = stager.stage(training_state(i)).wait();
    EXPECT_EQ(fingerprint(next.state()), fingerprint(training_state(i)));
    next.close();
  }
  EXPECT_EQ(fingerprint(first.state()), expected);
}

TEST(StagerTest, TensorsKeepTheLease) {
  Stager stager({.images = 1, .when_busy = WhenBusy::error});
  auto snapshot = stager.stage(training_state(1)).wait();
  auto state = snapshot.state();
  snapshot.close();
  EXPECT_THROW(snapshot.state(), Error);
  EXPECT_THROW(stager.stage(training_state(2)), Error);
  state = {};
  EXPECT_NO_THROW(stager.stage(training_state(2)));
}

TEST(StagerTest, SkipGivesATicketThatSaysBusy) {
  Stager stager({.images = 1, .when_busy = WhenBusy::skip});
  const auto held = stager.stage(training_state(1)).wait();
  const auto ticket = stager.stage(training_state(2));
  EXPECT_TRUE(ticket.is_done());
  try {
    ticket.wait();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::busy);
  }
}

TEST(StagerTest, WaitsForALeaseAndSaysHowLong) {
  Stager stager({.images = 1});
  // Until the lease ended after the call began to wait for it, and not before.
  for (auto delay = std::chrono::milliseconds(1);; delay *= 2) {
    auto held = stager.stage(training_state(1)).wait();
    std::thread other([&] {
      std::this_thread::sleep_for(delay);
      held.close();
    });
    auto ticket = stager.stage(training_state(2));
    other.join();
    const auto metrics = ticket.metrics();
    ticket.wait().close();
    EXPECT_GE(metrics.blocked_s, metrics.waited_s);
    if (metrics.waited_s > 0) break;
  }
}

TEST(StagerTest, ChangedStatesAreStagedAnew) {
  Stager stager;
  auto w = counting(DType::f32, {10, 10}, 1);
  const auto check = [&](const Value& state) {
    auto snapshot = stager.stage(state).wait();
    EXPECT_EQ(fingerprint(snapshot.state()), fingerprint(state));
    snapshot.close();
  };
  check(Value::dict({{"w", w}, {"step", 1}}));
  check(Value::dict({{"w", w}, {"step", 2}}));
  check(Value::dict({{"w", w}, {"step", 2}, {"more", counting(DType::i8, {3}, 2)}}));
  check(Value::dict({{"v", w}, {"step", 2}}));
  check(Value::dict({{"w", Tensor(w.storage(), DType::f32, {5, 20})}}));
  check(Value::dict({{"w", Tensor(w.storage(), DType::i32, {10, 10})}}));
  check(Value::dict({{"w", Tensor(w.storage(), DType::f32, {4, 4}, {20, 2})}}));
  check(Value::dict({{"w", w}, {"log", std::string(5000, 'x')}}));
  check(Value::dict({{"w", w}, {"log", std::string(5000, 'y')}}));
  check(Value::dict({{"w", w}, {"log", std::string(5001, 'z')}}));
  // The tree outgrows its header.
  check(Value::dict({{"w", w}, {"note", "a"}}));
  Value::Items items;
  for (int i = 0; i < 100; ++i) items.push_back(std::string(1000, 'b'));
  check(Value::dict({{"w", w}, {"note", Value::list(items)}}));
}

// A smaller layout's gaps must not show what an earlier one left in the image.
TEST(StagerTest, GapsOfReusedImagesAreZero) {
  Stager stager({.images = 1});
  auto dirt = counting(DType::u8, {100000}, 9);
  stager.stage(Value::dict({{"dirt", dirt}})).wait().close();
  auto w = counting(DType::f32, {100, 100}, 1);
  const Tensor wide(w.storage(), DType::f32, {100, 80}, {100, 1});
  auto snapshot = stager.stage(Value::dict({{"w", wide}})).wait();
  const auto got = snapshot.state().at("w").as_tensor();
  EXPECT_EQ(got.strides(), (Dims{100, 1}));
  for (int row = 0; row < 99; ++row) {
    for (int i = 320; i < 400; ++i) {
      ASSERT_EQ(std::to_integer<int>(got.data()[row * 400 + i]), 0);
    }
  }
}

TEST(StagerTest, OptionsThatCannotBeAreRefusedByName) {
  EXPECT_THROW(Stager({.images = 0}), Error);
  EXPECT_THROW(Stager({.memory = Memory::shared}), Error);
  EXPECT_THROW(Stager({.capture = Capture::blocking, .huge_pages = true}), Error);
  Stager stager;
  EXPECT_NE(stager.stage(training_state(1)).capture().find("blocking"), std::string::npos);
}

TEST(StagerTest, IsClosedAfterClose) {
  Stager stager;
  auto snapshot = stager.stage(training_state(1)).wait();
  stager.close();
  stager.close();
  EXPECT_EQ(fingerprint(snapshot.state()), fingerprint(training_state(1)));
  try {
    stager.stage(training_state(1));
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::closed);
  }
}

TEST(StagerTest, IsInertInAForkedChild) {
  auto stager = std::make_unique<Stager>();
  auto ticket = stager->stage(training_state(1));
  auto snapshot = ticket.wait();
  const auto child = fork();
  if (child == 0) {
    int closed = 0;
    const auto count = [&](auto body) {
      try {
        body();
      } catch (const Error& e) {
        closed += e.code() == ErrorCode::closed;
      }
    };
    count([&] { stager->stage(training_state(1)); });
    count([&] { snapshot.state(); });
    count([&] { ticket.wait(); });
    stager.reset();
    snapshot.close();
    _exit(closed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 3);
  EXPECT_EQ(fingerprint(snapshot.state()), fingerprint(training_state(1)));
}

TEST(StagerTest, ThreadsTakeTurns) {
  Stager stager({.images = 4});
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const auto state = training_state(t * 100 + i);
        auto snapshot = stager.stage(state).wait();
        EXPECT_EQ(fingerprint(snapshot.state()), fingerprint(state));
        snapshot.close();
      }
    });
  }
  for (auto& t : threads) t.join();
}

TEST(StagerTest, PrewarmMakesEveryImageReadyAndCopiesNothing) {
  Stager stager({.images = 2, .memory = Memory::pageable});
  const auto state = training_state(3);
  const auto ticket = stager.prewarm(state);
  const auto made = ticket.wait();
  EXPECT_GE(made, 2 * stager.stage(state).wait().nbytes());
  EXPECT_EQ(ticket.progress(), (std::pair{made, made}));
  EXPECT_EQ(stager.prewarm(state).wait(), 0u);
  const auto snapshot = stager.stage(state).wait();
  EXPECT_EQ(fingerprint(snapshot.state()), fingerprint(state));
}

TEST(StagerTest, StagingWhileItPrewarmsIsRight) {
  for (int i = 0; i < 20; ++i) {
    Stager stager({.images = 2});
    const auto state = training_state(i);
    const auto ticket = stager.prewarm(state);
    EXPECT_EQ(fingerprint(stager.stage(state).wait().state()), fingerprint(state));
    if (i % 2 == 0) ticket.wait();
  }
}

TEST(StagerTest, PrewarmFailuresAreInTheTicket) {
  Stager stager({.images = 1});
  const auto state = training_state(1);
  {
    const fakes::FaultyCalls faults(
        {.mode = fakes::FaultMode::fail, .error = EFAULT, .call = "madvise"});
    const auto ticket = stager.prewarm(state);
    fakes::expect_error(ErrorCode::no_space, "no space is left", [&] { ticket.wait(); });
    EXPECT_TRUE(faults.was_reached());
  }
  EXPECT_GT(stager.prewarm(state).wait(), 0u);
  stager.close();
  const auto late = stager.prewarm(state);
  fakes::expect_error(ErrorCode::closed, "", [&] { late.wait(); });
}

TEST(StagerTest, PinnedImagesSaySo) {
  const fakes::UseFakeCuda fake;
  {
    Stager stager({.images = 1, .memory = Memory::pinned});
    const auto state = training_state(1);
    const auto ticket = stager.stage(state);
    EXPECT_EQ(ticket.metrics().memory.find("pinned (CUDA device 0, Fake GPU A), "), 0u)
        << ticket.metrics().memory;
    EXPECT_EQ(fake->registered, 1);
    EXPECT_EQ(fingerprint(ticket.wait().state()), fingerprint(state));
    fake->register_result = 2;  // no second pinning is needed
    ticket.wait().close();
    stager.stage(state).wait();
    EXPECT_EQ(fake->failures, 0);
  }
  EXPECT_EQ(fake->registered, 0);
  EXPECT_EQ(fake->late_unregistrations, 0);
  EXPECT_EQ(fake->retained, 0);
}

TEST(StagerTest, ImagesThatCannotBePinnedFailTheCallAndNotTheStager) {
  const fakes::UseFakeCuda fake;
  Stager stager({.images = 1, .memory = Memory::pinned});
  const auto state = training_state(1);
  fake->register_result = 2;
  fakes::expect_error(ErrorCode::no_space, "CUDA_ERROR_OUT_OF_MEMORY",
                      [&] { stager.stage(state); });
  EXPECT_EQ(fake->failures, 1);
  fake->register_result = 0;
  EXPECT_EQ(fingerprint(stager.stage(state).wait().state()), fingerprint(state));
}

TEST(StagerTest, PinnedWithoutCudaSaysWhy) {
  const auto missing = device::open_cuda_library("/nowhere/libcuda.so.1");
  const device::ReplaceCudaLibrary replaced(missing);
  fakes::expect_error(ErrorCode::unsupported, "no CUDA driver: /nowhere/libcuda.so.1",
                      [] { Stager({.memory = Memory::pinned}); });
  Stager automatic;
  EXPECT_NE(automatic.stage(training_state(1)).metrics().memory.find("pageable (not pinned: no "),
            std::string::npos);
}

}  // namespace
}  // namespace understudy
