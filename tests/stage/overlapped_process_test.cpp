// Overlapped capture and other processes: forked children, signals, ends.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <filesystem>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/planted_protection.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Limit;
using fakes::PlantedProtection;
using fakes::Trainer;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
const std::vector<std::uint64_t> kSizes = {24 * kMiB, 3 * kMiB, 100 << 10};

// Open descriptors that are userfaultfds.
int count_userfaultfds() {
  int count = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    count += target.string().find("userfaultfd") != std::string::npos;
  }
  return count;
}

TEST(OverlappedProcessTest, ChildrenWriteWithoutWaitingAndParentsAreNotTorn) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(120);
  Stager stager({.capture = Capture::overlapped});
  Trainer trainer(kSizes);
  for (std::uint64_t round = 1; round <= 30; ++round) {
    const auto clone = trainer.clone();
    auto ticket = stager.stage(trainer.state());
    // The child has the pages as they were at the fork, without protection.
    const int status = fakes::in_child([&] {
      auto* const data = trainer.tensor(0).data();
      for (std::uint64_t i = 0; i < trainer.tensor(0).nbytes(); i += 4096) data[i] = std::byte{1};
      return count_userfaultfds();
    });
    EXPECT_EQ(status, 0) << "the child kept the parent's descriptor";
    trainer.step(round, 2);
    ASSERT_EQ(fakes::count_torn(ticket.wait(), clone), 0) << "round " << round;
  }
}

TEST(OverlappedProcessTest, AChildMayHaveAStagerOfItsOwn) {
  SKIP_WITHOUT_USERFAULTFD();
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the thread sanitizer knows no threads that a forked child starts";
#endif
  const Limit limit(60);
  auto stager = std::make_unique<Stager>(StagerOptions{.capture = Capture::overlapped});
  Trainer trainer(kSizes);
  auto ticket = stager->stage(trainer.state());
  const int status = fakes::in_child([&] {
    const Limit in_child(30);
    try {
      stager->stage(trainer.state());
      return 1;
    } catch (const Error& e) {
      if (e.code() != ErrorCode::closed) return 2;
    }
    stager.reset();
    Trainer own(kSizes);
    const auto clone = own.clone();
    Stager fresh({.capture = Capture::overlapped});
    const auto mine = fresh.stage(own.state());
    own.step(1, 1);
    return fakes::count_torn(mine.wait(), clone) == 0 ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
  ticket.wait();
}

// Closing the descriptor while a child holds it would leave pages protected.
TEST(OverlappedProcessTest, NothingStaysProtectedWhenAChildOutlivesTheStager) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Trainer trainer(kSizes);
  auto stager = std::make_unique<Stager>(StagerOptions{.capture = Capture::overlapped});
  stager->stage(trainer.state()).wait();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  // By the system call itself: the handlers that close it in children do not run.
  const auto child = static_cast<pid_t>(::syscall(SYS_fork));
  if (child == 0) {
    ::close(ends[1]);
    char byte = 0;
    (void)!::read(ends[0], &byte, 1);
    _exit(0);
  }
  ::close(ends[0]);
  auto ticket = stager->stage(trainer.state());
  stager.reset();
  EXPECT_EQ(count_userfaultfds(), 0);
  trainer.step(3, 2);
  ticket.wait();
  ::close(ends[1]);
  int status = 0;
  ::waitpid(child, &status, 0);
}

TEST(OverlappedProcessTest, StopAndContinueTearNothing) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(120);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_NONBLOCK), 0);
  std::cout.flush();
  const auto child = ::fork();
  if (child == 0) {
    alarm(100);
    ::close(ends[1]);
    const auto is_over = [&] {
      char byte = 0;
      return ::read(ends[0], &byte, 1) == 0;
    };
    Stager stager({.capture = Capture::overlapped});
    stage::PageFence::Share()->set_late_ticks(20);
    Trainer trainer(kSizes);
    int torn = 0;
    for (std::uint64_t round = 1; !is_over(); ++round) {
      const auto clone = trainer.clone();
      const auto ticket = stager.stage(trainer.state());
      trainer.step(round, 3);
      torn += fakes::count_torn(ticket.wait(), clone);
    }
    _exit(torn == 0 ? 0 : 1);
  }
  ::close(ends[0]);
  constexpr int kStops = 40;
  int status = 0, stops = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (stops == kStops) ::close(ends[1]);
    ::kill(child, SIGSTOP);
    // Once it outlasts the watch's limit: that counts its own looks, not seconds.
    std::this_thread::sleep_for(std::chrono::milliseconds(stops++ == 3 ? 1500 : 3));
    ::kill(child, SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(7));
  }
  EXPECT_GE(stops, kStops);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

void do_nothing(int) {}

TEST(OverlappedProcessTest, SignalsThatInterruptWritersTearNothing) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  struct sigaction action {
  }, before{};
  action.sa_handler = do_nothing;
  ::sigaction(SIGUSR1, &action, &before);
  Stager stager({.capture = Capture::overlapped});
  Trainer trainer(kSizes);
  for (std::uint64_t round = 1; round <= 30; ++round) {
    const auto clone = trainer.clone();
    const auto ticket = stager.stage(trainer.state());
    std::atomic<bool> is_over{false};
    const auto trainer_thread = ::pthread_self();
    std::thread signals([&] {
      while (!is_over) ::pthread_kill(trainer_thread, SIGUSR1);
    });
    std::memset(trainer.tensor(0).data(), static_cast<int>(round), trainer.tensor(0).nbytes());
    is_over = true;
    signals.join();
    ASSERT_EQ(fakes::count_torn(ticket.wait(), clone), 0) << "round " << round;
  }
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(OverlappedProcessTest, AStagerMayEndBeforeItsCapture) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Trainer trainer(kSizes);
  const auto clone = trainer.clone();
  auto ticket = [&] {
    Stager stager({.capture = Capture::overlapped});
    return stager.stage(trainer.state());
  }();
  trainer.step(1, 2);
  EXPECT_EQ(fakes::count_torn(ticket.wait(), clone), 0);
  EXPECT_EQ(count_userfaultfds(), 0);
}

TEST(OverlappedProcessTest, WithoutPermissionItIsBlockingOrAnError) {
  const auto refuse = [](int) {
    errno = EPERM;
    return -1;
  };
  auto calls = os::system_calls();
  calls.userfaultfd = refuse;
  calls.open = [](const char* path, int flags, mode_t mode) {
    if (std::string_view(path) != "/dev/userfaultfd") return ::open(path, flags, mode);
    errno = EACCES;
    return -1;
  };
  const os::ReplaceCalls replaced(calls);
  fakes::expect_error(ErrorCode::unsupported, "sysctl vm.unprivileged_userfaultfd=1",
                      [] { Stager({.capture = Capture::overlapped}); });
  Stager stager;
  Trainer trainer(kSizes);
  const auto ticket = stager.stage(trainer.state());
  EXPECT_TRUE(ticket.is_done());
  EXPECT_TRUE(ticket.capture().starts_with("blocking (kernel faults are not permitted"))
      << ticket.capture();
  EXPECT_EQ(ticket.metrics().at_once_nbytes, 27 * kMiB + (100 << 10));
}

TEST(OverlappedProcessTest, SmallStatesAreBlocking) {
  Stager stager;
  Trainer trainer({5 * kMiB});
  const auto ticket = stager.stage(trainer.state());
  EXPECT_TRUE(ticket.is_done());
  EXPECT_TRUE(ticket.capture().starts_with("blocking (")) << ticket.capture();
}

}  // namespace
}  // namespace understudy
