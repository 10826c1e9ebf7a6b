#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "output.h"

namespace understudy::cli {
namespace {

// What takes less needs no progress.
constexpr std::chrono::milliseconds kPatience(1000);
// Often enough to look alive, too rare to cost anything.
constexpr std::chrono::milliseconds kInterval(200);

}  // namespace

ProgressLine::ProgressLine(std::string what)
    : what_(std::move(what)),
      is_terminal_(isatty(STDERR_FILENO) == 1),
      next_(Clock::now() + kPatience) {}

ProgressLine::~ProgressLine() {
  if (is_shown_) std::fputs("\r\033[K", stderr);
}

void ProgressLine::update(void* line, std::uint64_t done, std::uint64_t total) {
  auto& self = *static_cast<ProgressLine*>(line);
  if (!self.is_terminal_ || total == 0 || Clock::now() < self.next_) return;
  self.next_ = Clock::now() + kInterval;
  self.is_shown_ = true;
  const auto percent = static_cast<double>(done) / static_cast<double>(total) * 100;
  std::fputs(
      fmt::format("\r\033[K{}: {:.0f} % of {}", self.what_, percent, human_size(total)).c_str(),
      stderr);
  std::fflush(stderr);
}

}  // namespace understudy::cli
