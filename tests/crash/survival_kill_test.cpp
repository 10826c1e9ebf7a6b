// A run whose images survive is killed with SIGKILL at random moments, again and again. What was
// sealed comes back from memory, or something newer does; to the bit, and nothing grows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <iostream>
#include <random>

#include "fakes/survivors.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;

constexpr int kKills = 200;
// Large enough for an overlapped capture to be one; several blocks.
constexpr std::int64_t kElements = (std::int64_t{9} << 20) / 4 + 77;
constexpr double kLongestLife = 4;  // in saves

struct Message {
  enum Type : std::int64_t { failed, resumed, begun, sealed };
  std::int64_t type = failed;
  std::int64_t step = 0;
  std::int64_t is_from_memory = 0;
};

// Each element and the scalar say which step they are of.
void fill(const Tensor& w, std::int64_t step) {
  auto* const at = reinterpret_cast<std::int32_t*>(w.data());
  for (std::int64_t i = 0; i < kElements; ++i) at[i] = static_cast<std::int32_t>(step * 7919 + i);
}

bool is_of(const Value& state, std::int64_t step) {
  const auto& w = state.at("w").as_tensor();
  const auto* const at = reinterpret_cast<const std::int32_t*>(w.data());
  for (std::int64_t i = 0; i < kElements; ++i) {
    if (at[i] != static_cast<std::int32_t>(step * 7919 + i)) return false;
  }
  return state.at("step").as_integer() == step;
}

[[noreturn]] void train_for_ever(const CheckpointerOptions& options, int out) {
  const auto tell = [&](Message message) {
    if (write(out, &message, sizeof message) != sizeof message) _exit(1);
  };
  try {
    auto* const ckpt = new Checkpointer(options);
    const auto w = Tensor::zeros(DType::i32, {kElements});
    const auto state_of = [&](std::int64_t step) {
      return Value::dict({{"w", w}, {"step", step}});
    };
    auto state = state_of(0);
    std::int64_t step = ckpt->resume(state).value_or(0);
    if (step > 0 && !is_of(state, step)) throw std::runtime_error("torn");
    tell({Message::resumed, step, step > 0 && ckpt->resumed()->source == "memory"});
    for (;;) {
      fill(w, ++step);
      tell({Message::begun, step});
      const auto ticket = ckpt->save(step, state_of(step));
      // The next step is written while an overlapped capture goes on.
      if (ticket.is_captured() || step % 2 == 0) {
        if (fakes::wait_sealed(ticket) != "sealed") throw std::runtime_error("not sealed");
        tell({Message::sealed, step});
      }
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
  }
  tell({});
  _exit(1);
}

class Run {
 public:
  explicit Run(const CheckpointerOptions& options) {
    int said[2];
    if (pipe(said) != 0) throw std::runtime_error("no pipe");
    std::cout.flush();
    pid_ = fork();
    if (pid_ == 0) {
      close(said[0]);
      train_for_ever(options, said[1]);
    }
    close(said[1]);
    said_ = said[0];
  }
  ~Run() { close(said_); }

  bool hear(Message& message) { return read(said_, &message, sizeof message) == sizeof message; }
  void kill_now() const {
    kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "it ended by itself";
  }

 private:
  pid_t pid_ = -1;
  int said_ = -1;
};

bool overlaps() {
  Stager stager({.capture = Capture::overlapped});
  try {
    stager.stage(Value::dict({{"w", Tensor::zeros(DType::i32, {kElements})}})).wait();
    return true;
  } catch (const Error&) {
    return false;
  }
}

void kill_again_and_again(Capture capture) {
  if (!fakes::SurvivingRun::is_possible()) GTEST_SKIP() << "/dev/shm is no tmpfs";
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const fakes::SurvivingRun run;
  auto options = run.options();
  options.keep = 2;
  options.capture = capture;
  std::int64_t sealed = 0, begun = 0;
  int from_memory = 0;
  double save_us = 0;
  for (int kill = 0; kill < kKills && !testing::Test::HasFailure(); ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    Run trainer(options);
    Message message;
    ASSERT_TRUE(trainer.hear(message));
    ASSERT_EQ(message.type, Message::resumed);
    EXPECT_GE(message.step, sealed) << "what was sealed is lost";
    EXPECT_LE(message.step, begun) << "what was never saved came back";
    from_memory += message.is_from_memory != 0;
    sealed = message.step;
    int saves = 0;
    const auto note = [&] {
      ASSERT_NE(message.type, Message::failed);
      if (message.type == Message::begun) {
        begun = std::max(begun, message.step);
        ++saves;
      }
      if (message.type == Message::sealed) sealed = message.step;
    };
    const auto began = std::chrono::steady_clock::now();
    if (kill == 0) {  // how long they take here
      while (saves < 4 && trainer.hear(message)) note();
    } else {
      std::uniform_real_distribution life(0.0, kLongestLife * save_us);
      usleep(static_cast<useconds_t>(life(random)));
    }
    trainer.kill_now();
    const std::chrono::duration<double, std::micro> lived =
        std::chrono::steady_clock::now() - began;
    while (trainer.hear(message)) note();
    const double share = kill == 0 ? 1 : 0.3;
    if (saves > 1) {
      save_us = (1 - share) * save_us + share * lived.count() / saves;
    } else {
      save_us *= 1.05;  // they may have become slower
    }
    EXPECT_LE(run.sealed().size(), 2u);
    EXPECT_LE(run.left().size(), 20u);
  }
  EXPECT_GT(from_memory, kKills / 2) << "the kills did not fall where they hurt";
  std::cout << kKills << " kills, " << from_memory << " resumed from memory, up to step " << begun
            << std::endl;
  Checkpointer ckpt(options);
  auto state =
      Value::dict({{"w", Tensor::zeros(DType::i32, {kElements})}, {"step", std::int64_t{0}}});
  const auto step = ckpt.resume(state);
  ASSERT_TRUE(step);
  EXPECT_GE(*step, sealed);
  EXPECT_TRUE(is_of(state, *step));
  ckpt.close();
  EXPECT_THAT(run.left(), testing::IsEmpty());
}

TEST(SurvivalKills, WithBlockingCaptureNothingSealedIsLost) {
  kill_again_and_again(Capture::blocking);
}

TEST(SurvivalKills, WithOverlappedCaptureNothingSealedIsLost) {
  if (!overlaps()) GTEST_SKIP() << "no overlapped capture on this machine";
  kill_again_and_again(Capture::overlapped);
}

}  // namespace
}  // namespace understudy
