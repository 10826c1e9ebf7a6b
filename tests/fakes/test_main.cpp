// The main of all test programs: each test has a limit, beyond which it ends the program by
// its name. Tests wait for events and never for time, so that only one that hangs gets there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kLimit_s = 900;
#else
constexpr int kLimit_s = 300;  // ten times the slowest, for machines that are busy or slow
#endif
constexpr int kStatus = 124;  // as timeout(1) has it

// Written before the timer is set, read by the handler.
std::string message;

void end_program(int) {
  (void)!write(STDOUT_FILENO, message.data(), message.size());
  _exit(kStatus);
}

// A timer, and no thread: tests count the threads of their process, and fork.
class Limits final : public testing::EmptyTestEventListener {
 public:
  explicit Limits(int limit_s) : limit_s_(limit_s) {
    struct sigaction action {};
    action.sa_handler = end_program;
    sigaction(SIGRTMAX, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMAX;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) std::abort();
  }

 private:
  void OnTestStart(const testing::TestInfo& test) override {
    message = std::string("[  LIMIT   ] ") + test.test_suite_name() + "." + test.name() +
              " went on for more than " + std::to_string(limit_s_) + " seconds\n";
    set(limit_s_);
  }
  void OnTestEnd(const testing::TestInfo&) override { set(0); }

  void set(int seconds) {
    itimerspec when{};
    when.it_value.tv_sec = seconds;
    if (timer_settime(timer_, 0, &when, nullptr) != 0) std::abort();
  }

  const int limit_s_;
  timer_t timer_{};
};

const pid_t home = getpid();

}  // namespace

// Asked by LeakSanitizer when a process ends. A forked child leaves what is its parent's alone.
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() {
  return getpid() != home ? 1 : 0;
}

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const char* const given = std::getenv("UNDERSTUDY_TEST_LIMIT_S");
  testing::UnitTest::GetInstance()->listeners().Append(
      new Limits(given != nullptr ? std::atoi(given) : kLimit_s));
  return RUN_ALL_TESTS();
}
