// What may happen to captured memory while it is captured: it is freed, mapped
// anew, dropped; and which memory is not protected at all.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <array>
#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/planted_protection.h"
#include "stage/meanwhile.h"
#include "stage/overlapping.h"
#include "vm/memory_map.h"

namespace understudy {
namespace {

using fakes::HeldUp;
using fakes::holds_only;
using fakes::kFarOff;
using fakes::Limit;
using fakes::Mapped;
using fakes::Meanwhile;
using fakes::PlantedProtection;
using fakes::Trainer;
using fakes::weight;

constexpr std::uint64_t kPage = 4096, kMiB = std::uint64_t{1} << 20;

// Does `act` to the memory after the call and before anything is copied.
template <class Act>
void expect_failure_after(Act act) {
  HeldUp held;
  const auto ticket = held.stager.stage(held.memory.state());
  act(held.memory);
  held.meanwhile.over();
  fakes::expect_error(ErrorCode::invalid, "'model.weight'", [&] { ticket.wait(); });
  // And the next one is whole again.
  Mapped other(32 * kMiB);
  other.fill(3);
  EXPECT_TRUE(holds_only(weight(held.stager.stage(other.state()).wait()), 3));
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
  HeldUp held;
  const auto& memory = held.memory;
  held.meanwhile.watch(memory.data() + kFarOff - 2 * kMiB);
  const auto ticket = held.stager.stage(memory.state());
  // The write fails as it would without a capture; this one says so by a result
  // and not by a signal.
  ssize_t result = 0;
  std::thread writer([&] {
    std::array<char, 100> bytes{};
    const iovec from{bytes.data(), bytes.size()}, to{memory.data() + kFarOff, bytes.size()};
    result = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
  });
  held.meanwhile.wait_for_a_writer();
  ::munmap(memory.data() + kFarOff - kMiB, 2 * kMiB);
  held.meanwhile.over();
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
  Stager automatic({.huge_pages = true});
  const auto only = Value::dict({{"shared", shared.tensor()}});
  fakes::expect_error(ErrorCode::unsupported, "shared memory", [&] { stager.stage(only); });
  Mapped large(130 * kMiB, MAP_SHARED | MAP_ANONYMOUS);
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
  // It stays loaded, and what is mapped there next is not pinned.
  set("understudy_pinned_begin", nullptr);
  set("understudy_pinned_end", nullptr);
  ::dlclose(driver);
  EXPECT_NE(ticket.capture().find("4.0 MiB of it because it is pinned memory"), std::string::npos)
      << ticket.capture();
  ticket.wait();
}

TEST(OverlappedMemoryTest, MappingsDoNotGrow) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(60);
  Stager stager({.capture = Capture::overlapped});
  std::vector<std::uint64_t> sizes(200, 300 << 10);
  Trainer trainer(sizes);
  const auto capture = [&] {
    auto ticket = stager.stage(trainer.state());
    trainer.step(1, 1);
    ticket.wait().close();
    EXPECT_TRUE(ticket.capture().starts_with("overlapped")) << ticket.capture();
    return vm::MemoryMap::of_this_process().all().size();
  };
  capture();
  const auto before = capture();
  std::size_t after = 0;
  for (int i = 0; i < 50; ++i) after = capture();
  // A few for the writers' stacks, which the test makes itself.
  EXPECT_LE(after, before + 4);
}

TEST(OverlappedMemoryTest, StagersTakeTurnsOverTheSameMemory) {
  SKIP_WITHOUT_USERFAULTFD();
  const Limit limit(120);
  Trainer trainer({20 * kMiB, 3 * kMiB, 70 << 10});
  Stager first({.capture = Capture::overlapped}), second({.capture = Capture::overlapped});
  for (std::uint64_t round = 1; round <= 50; ++round) {
    const auto clone = trainer.clone();
    const auto one = first.stage(trainer.state());
    std::optional<Ticket<Snapshot>> two;
    std::thread other([&] { two = second.stage(trainer.state()); });
    other.join();
    trainer.step(round, 2);
    ASSERT_EQ(fakes::count_torn(one.wait(), clone), 0);
    ASSERT_EQ(fakes::count_torn(two->wait(), clone), 0);
  }
}

}  // namespace
}  // namespace understudy
