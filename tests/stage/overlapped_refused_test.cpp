// What overlapped capture needs and cannot have, or not any more: said, and done without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "fakes/expect_error.h"
#include "stage/meanwhile.h"
#include "stage/overlapping.h"

namespace understudy {
namespace {

using fakes::expect_error;
using fakes::holds_only;
using fakes::weight;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct OverlappedRefusedTest : ::testing::Test {
  void SetUp() override {
    SKIP_WITHOUT_USERFAULTFD();
    memory.fill(1);
  }
  Stager overlapping() { return Stager({.capture = Capture::overlapped}); }
  // Right whatever was refused; how it was captured.
  std::string capture(Stager& stager) {
    const auto ticket = stager.stage(memory.state());
    EXPECT_TRUE(holds_only(weight(ticket.wait()), 1));
    return ticket.capture();
  }

  const fakes::Limit limit{60};
  fakes::PlantedProtection planted;
  fakes::Mapped memory{std::uint64_t{8} << 20};
};

TEST_F(OverlappedRefusedTest, CopiesFromTheBeginning) {
  planted.copy_error = EPERM;
  expect_error(ErrorCode::unsupported, "process_vm_writev: Operation not permitted",
               [&] { overlapping(); });
  Stager automatic({.capture = Capture::automatic});
  EXPECT_THAT(capture(automatic), HasSubstr("process_vm_writev"));
}

TEST_F(OverlappedRefusedTest, CopiesLater) {
  auto stager = overlapping();
  EXPECT_THAT(capture(stager), StartsWith("overlapped"));
  planted.copy_error = EPERM;
  EXPECT_THAT(capture(stager), StartsWith("blocking (this process may not copy"));
  planted.copy_error = 0;
  EXPECT_THAT(capture(stager), StartsWith("overlapped"));
}

TEST_F(OverlappedRefusedTest, CopiesBehindTheCall) {
  auto stager = overlapping();
  planted.copy_error_nbytes = 4096;
  planted.copy_error = EPERM;
  const auto ticket = stager.stage(memory.state());
  expect_error(ErrorCode::io, "lost the right to process_vm_writev", [&] { ticket.wait(); });
  memory.fill(1);  // nothing is left protected
}

TEST_F(OverlappedRefusedTest, TheQuestionWhatStayedProtected) {
  auto stager = overlapping();
  planted.answer_error = EBADF;
  const auto ticket = stager.stage(memory.state());
  expect_error(ErrorCode::io, "closed the descriptor", [&] { ticket.wait(); });
  memory.fill(1);
}

TEST_F(OverlappedRefusedTest, ALookAtTheMappings) {
  auto stager = overlapping();
  planted.open_error = EMFILE;
  EXPECT_THAT(capture(stager), HasSubstr("cannot open /proc/self/maps: Too many open files"));
  planted.open_error = 0;
  EXPECT_THAT(capture(stager), StartsWith("overlapped"));
}

int descriptor_of(const std::string& file) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
    if (target.find(file) != std::string::npos) return std::stoi(entry.path().filename());
  }
  return -1;
}

TEST_F(OverlappedRefusedTest, DescriptorsThatTheProgramCloses) {
  auto stager = overlapping();
  EXPECT_THAT(capture(stager), StartsWith("overlapped"));
  ASSERT_EQ(::close(descriptor_of("/pagemap")), 0);
  const int other = ::open("/dev/null", O_RDONLY);  // has its number now, and is nobody's
  EXPECT_THAT(capture(stager), StartsWith("blocking (somebody closed a descriptor"));
  memory.fill(1);
  stager = Stager({.capture = Capture::blocking});  // the last that had a share in it is gone
  EXPECT_EQ(::close(other), 0) << "what is another's stays open";
}

}  // namespace
}  // namespace understudy
