// Writes by the kernel into pages that are captured.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <fstream>

#include "stage/meanwhile.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::HeldUp;
using fakes::holds_only;
using fakes::kFarOff;
using fakes::weight;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// The kernel writes as the program asks it to: nothing comes short.
template <class Write>
void expect_kernel_writes_wait(Write write) {
  HeldUp held;
  held.meanwhile.watch(held.memory.data() + kFarOff - 2 * kMiB);
  const auto ticket = held.stager.stage(held.memory.state());
  auto* const at = held.memory.data() + kFarOff + 100;
  constexpr std::size_t kNbytes = 3 * kMiB;
  std::thread writer([&] { write(at, kNbytes); });
  held.meanwhile.wait_for_a_writer();
  held.meanwhile.over();
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

TEST(OverlappedKernelTest, ReadsFromFilesWait) {
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

TEST(OverlappedKernelTest, ReadsFromPipesWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    read_from(ends[1], ends[0], to, nbytes);
  });
}

TEST(OverlappedKernelTest, ReadsFromSocketsWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    read_from(ends[1], ends[0], to, nbytes);
  });
}

TEST(OverlappedKernelTest, WritesByAnotherProcessWait) {
  SKIP_WITHOUT_USERFAULTFD();
  expect_kernel_writes_wait([&](std::byte* to, std::size_t nbytes) {
    const std::string nines(nbytes, '\x09');
    const iovec from{const_cast<char*>(nines.data()), nbytes}, there{to, nbytes};
    ASSERT_EQ(process_vm_writev(getpid(), &from, 1, &there, 1, 0), static_cast<ssize_t>(nbytes));
  });
}

}  // namespace
}  // namespace understudy
