// What may happen to captured memory while it is captured: it is freed, mapped
// anew, dropped, written by the kernel, shared with children.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <array>
#include <fstream>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/planted_protection.h"
#include "os/mappings.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::Limit;
using fakes::PlantedProtection;
using fakes::Trainer;

constexpr std::uint64_t kPage = 4096, kMiB = std::uint64_t{1} << 20;

// A mapping that the test may take away. Borrowed: nobody keeps it alive.
class Mapped {
 public:
  explicit Mapped(std::uint64_t nbytes, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1)
      : nbytes_(nbytes),
        data_(static_cast<std::byte*>(
            ::mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, flags, fd, 0))) {}
  ~Mapped() { ::munmap(data_, nbytes_); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

  std::byte* data() const { return data_; }
  std::uint64_t nbytes() const { return nbytes_; }
  void fill(int value) { std::memset(data_, value, nbytes_); }
  Value state() const { return Value::dict({{"model", Value::dict({{"weight", tensor()}})}}); }
  Tensor tensor() const {
    return Tensor::borrow(data_, DType::u8, {static_cast<std::int64_t>(nbytes_)});
  }

 private:
  std::uint64_t nbytes_;
  std::byte* data_;
};

bool holds_only(const Tensor& t, int value) {
  for (std::uint64_t i = 0; i < t.nbytes(); ++i) {
    if (std::to_integer<int>(t.data()[i]) != value) return false;
  }
  return true;
}

Tensor weight(const Snapshot& snapshot) {
  return snapshot.state().at("model").at("weight").as_tensor();
}

// Holds up all copying until it is over.
class Meanwhile {
 public:
  explicit Meanwhile(PlantedProtection& planted) {
    planted.before_copy = [this](const std::byte* from) {
      if (from >= watched_) {
        is_reached_ = true;
        is_reached_.notify_all();
      }
      is_over_.wait(false);
    };
  }
  // Copiers begin in front and are held there; so a copy behind this address is
  // the server's, for a write that waits.
  void watch(const std::byte* address) { watched_ = address; }
  void wait_for_a_writer() { is_reached_.wait(false); }
  void over() {
    is_over_ = true;
    is_over_.notify_all();
  }

 private:
  std::atomic<bool> is_over_{false}, is_reached_{false};
  std::atomic<const std::byte*> watched_{reinterpret_cast<const std::byte*>(~std::uintptr_t{0})};
};

// More than the copiers can hold at once: 8 of them, a chunk each.
constexpr std::uint64_t kFarOff = 24 * kMiB;

// Does `act` to the memory after the call and before anything is copied.
template <class Act>
void expect_failure_after(Act act) {
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Mapped memory(32 * kMiB);
  memory.fill(1);
  Stager stager({.capture = Capture::overlapped});
  const auto ticket = stager.stage(memory.state());
  act(memory);
  meanwhile.over();
  fakes::expect_error(ErrorCode::invalid, "'model.weight'", [&] { ticket.wait(); });
  // And the next one is whole again.
  Mapped other(32 * kMiB);
  other.fill(3);
  EXPECT_TRUE(holds_only(weight(stager.stage(other.state()).wait()), 3));
}

TEST(OverlappedMemoryTest, UnmappedIsAnErrorAndNoSignal) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_failure_after([](Mapped& m) { ::munmap(m.data() + 10 * kMiB, 8 * kMiB); });
}

TEST(OverlappedMemoryTest, MappedAnewAtTheSamePlaceIsAnError) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_failure_after([](Mapped& m) {
    auto* const part = m.data() + 10 * kMiB;
    ::munmap(part, kPage);
    ::mmap(part, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    std::memset(part, 2, kPage);
  });
}

TEST(OverlappedMemoryTest, DroppedPagesAreAnError) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_failure_after([](Mapped& m) { ::madvise(m.data() + 10 * kMiB, kPage, MADV_DONTNEED); });
}

TEST(OverlappedMemoryTest, MovedByRealloc) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_failure_after([](Mapped& m) {
    auto* const moved = ::mremap(m.data() + 10 * kMiB, kMiB, 2 * kMiB, MREMAP_MAYMOVE);
    std::memset(moved, 2, 2 * kMiB);
    ::munmap(moved, 2 * kMiB);
  });
}

TEST(OverlappedMemoryTest, AWriterOfMemoryThatGoesAwayDoesNotHang) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Mapped memory(32 * kMiB);
  memory.fill(1);
  meanwhile.watch(memory.data() + kFarOff - 2 * kMiB);
  Stager stager({.capture = Capture::overlapped});
  const auto ticket = stager.stage(memory.state());
  // The write fails as it would without a capture; this one says so by a result
  // and not by a signal.
  ssize_t result = 0;
  std::thread writer([&] {
    std::array<char, 100> bytes{};
    const iovec from{bytes.data(), bytes.size()}, to{memory.data() + kFarOff, bytes.size()};
    result = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
  });
  meanwhile.wait_for_a_writer();
  ::munmap(memory.data() + kFarOff - kMiB, 2 * kMiB);
  meanwhile.over();
  writer.join();
  EXPECT_EQ(result, -1);
  fakes::expect_error(ErrorCode::invalid, "'model.weight'", [&] { ticket.wait(); });
}

TEST(OverlappedMemoryTest, ReferencesKeepWhatTheCallerDrops) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Stager stager({.capture = Capture::overlapped});
  std::weak_ptr<void> owner;
  std::vector<std::string> clone;
  auto ticket = [&] {
    Trainer trainer({32 * kMiB});
    owner = trainer.tensor(0).storage()->owner();
    clone = trainer.clone();
    return stager.stage(trainer.state());
  }();
  EXPECT_FALSE(owner.expired());
  Trainer replacement({32 * kMiB});
  meanwhile.over();
  EXPECT_EQ(fakes::count_torn(ticket.wait(), clone), 0);
  EXPECT_TRUE(owner.expired()) << "the storage was kept longer than the capture";
}

TEST(OverlappedMemoryTest, FreedHeapThatIsUsedAgainKeepsTheOldBytes) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Stager stager({.capture = Capture::overlapped});
  // What resize_ of a storage does to small ones: the block is given to others.
  constexpr std::uint64_t kNbytes = 120 << 10;
  auto* const block = static_cast<std::byte*>(std::malloc(kNbytes));
  std::memset(block, 1, kNbytes);
  const auto state = Value::dict(
      {{"model", Value::dict({{"weight", Tensor::borrow(block, DType::u8, {kNbytes})}})}});
  const auto ticket = stager.stage(state);
  std::thread other([&] { std::memset(block, 2, kNbytes); });
  meanwhile.over();
  other.join();
  EXPECT_TRUE(holds_only(weight(ticket.wait()), 1));
  std::free(block);
}

TEST(OverlappedMemoryTest, PagesThatWereNeverTouchedAreCaughtToo) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Mapped memory(32 * kMiB);
  Stager stager({.capture = Capture::overlapped});
  meanwhile.watch(memory.data() + kFarOff - 2 * kMiB);
  const auto ticket = stager.stage(memory.state());
  std::thread writer([&] {
    memory.data()[kFarOff] = std::byte{5};
    memory.fill(5);
  });
  meanwhile.wait_for_a_writer();
  meanwhile.over();
  writer.join();
  EXPECT_TRUE(holds_only(weight(ticket.wait()), 0));
  EXPECT_GT(ticket.metrics().faults, 0U);
}

// The kernel writes as the program asks it to: nothing comes short.
template <class Write>
void expect_kernel_writes_wait(Write write) {
  const Limit limit(60);
  PlantedProtection planted;
  Meanwhile meanwhile(planted);
  Mapped memory(32 * kMiB);
  memory.fill(1);
  Stager stager({.capture = Capture::overlapped});
  meanwhile.watch(memory.data() + kFarOff - 2 * kMiB);
  const auto ticket = stager.stage(memory.state());
  auto* const at = memory.data() + kFarOff + 100;
  constexpr std::size_t kNbytes = 3 * kMiB;
  std::thread writer([&] { write(at, kNbytes); });
  meanwhile.wait_for_a_writer();
  meanwhile.over();
  writer.join();
  EXPECT_TRUE(holds_only(weight(ticket.wait()), 1));
  EXPECT_GT(ticket.metrics().faults, 0U);
  EXPECT_TRUE(holds_only(Tensor::borrow(at, DType::u8, {kNbytes}), 9));
}

void read_all(int fd, std::byte* to, std::size_t nbytes) {
  while (nbytes > 0) {
    const auto n = ::read(fd, to, nbytes);
    ASSERT_GT(n, 0) << std::strerror(errno);
    to += n, nbytes -= static_cast<std::size_t>(n);
  }
}

// Feeds a descriptor with nines while its other end is read into pages.
void read_from(int in, int out, std::byte* to, std::size_t nbytes) {
  std::thread feeder([&] {
    const std::string nines(nbytes, '\x09');
    for (std::size_t at = 0; at < nbytes;) {
      const auto n = ::write(in, nines.data() + at, nbytes - at);
      ASSERT_GT(n, 0);
      at += static_cast<std::size_t>(n);
    }
  });
  read_all(out, to, nbytes);
  feeder.join();
  ::close(in), ::close(out);
}

TEST(OverlappedMemoryTest, ReadsFromFilesWait) {
  SKIP_WITHOUT_USERFAULTFD();
  const fakes::TemporaryFolder folder;
  const auto path = folder.path() / "nines";
  std::ofstream(path) << std::string(3 * kMiB, '\x09');
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    const int fd = ::open(path.c_str(), O_RDONLY);
    ASSERT_EQ(::read(fd, to, nbytes), static_cast<ssize_t>(nbytes));
    ::close(fd);
  });
}

TEST(OverlappedMemoryTest, ReadsFromPipesWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    read_from(ends[1], ends[0], to, nbytes);
  });
}

TEST(OverlappedMemoryTest, ReadsFromSocketsWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    read_from(ends[1], ends[0], to, nbytes);
  });
}

TEST(OverlappedMemoryTest, WritesByAnotherProcessWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    const std::string nines(nbytes, '\x09');
    const iovec from{const_cast<char*>(nines.data()), nbytes}, there{to, nbytes};
    ASSERT_EQ(process_vm_writev(getpid(), &from, 1, &there, 1, 0), static_cast<ssize_t>(nbytes));
  });
}

TEST(OverlappedMemoryTest, KindsThatCannotBeProtectedAreCopiedAtOnceAndNamed) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  const fakes::TemporaryFolder folder;
  const auto path = folder.path() / "mapped";
  std::ofstream(path) << std::string(4 * kMiB, '\x01');
  const int fd = ::open(path.c_str(), O_RDWR);
  Mapped file(4 * kMiB, MAP_PRIVATE, fd), shared(4 * kMiB, MAP_SHARED | MAP_ANONYMOUS);
  ::close(fd);
  Mapped plain(32 * kMiB);
  file.fill(1), shared.fill(2), plain.fill(3);
  Stager stager({.capture = Capture::overlapped});
  const auto ticket = stager.stage(Value::dict(
      {{"file", file.tensor()}, {"shared", shared.tensor()}, {"plain", plain.tensor()}}));
  file.fill(7), shared.fill(7), plain.fill(7);
  const auto state = ticket.wait().state();
  EXPECT_TRUE(holds_only(state.at("file").as_tensor(), 1));
  EXPECT_TRUE(holds_only(state.at("shared").as_tensor(), 2));
  EXPECT_TRUE(holds_only(state.at("plain").as_tensor(), 3));
  EXPECT_NE(ticket.capture().find("8.0 MiB of it because it is file mappings, shared memory"),
            std::string::npos)
      << ticket.capture();
  EXPECT_EQ(ticket.metrics().at_once_nbytes, 8 * kMiB);
  // A state of nothing else: automatic blocks, and asking for it is an error.
  Stager automatic;
  const auto only = Value::dict({{"shared", shared.tensor()}});
  fakes::expect_error(ErrorCode::unsupported, "shared memory", [&] { stager.stage(only); });
  Mapped large(20 * kMiB, MAP_SHARED | MAP_ANONYMOUS);
  const auto blocking = automatic.stage(Value::dict({{"shared", large.tensor()}}));
  EXPECT_TRUE(blocking.is_done());
  EXPECT_NE(blocking.capture().find("not shared memory"), std::string::npos) << blocking.capture();
}

// A device writes it past the page tables.
TEST(OverlappedMemoryTest, PinnedMemoryIsCopiedAtOnce) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  void* const driver = ::dlopen(PINNING_DRIVER, RTLD_NOW);
  ASSERT_NE(driver, nullptr) << ::dlerror();
  Mapped pinned(4 * kMiB), plain(32 * kMiB);
  const auto set = [&](const char* name, const std::byte* at) {
    *static_cast<unsigned long long*>(::dlsym(driver, name)) = reinterpret_cast<std::uintptr_t>(at);
  };
  set("understudy_pinned_begin", pinned.data());
  set("understudy_pinned_end", pinned.data() + pinned.nbytes());
  Stager stager({.capture = Capture::overlapped});
  const auto ticket =
      stager.stage(Value::dict({{"pinned", pinned.tensor()}, {"plain", plain.tensor()}}));
  ::dlclose(driver);
  EXPECT_NE(ticket.capture().find("4.0 MiB of it because it is pinned memory"), std::string::npos)
      << ticket.capture();
  ticket.wait();
}

}  // namespace
}  // namespace understudy
