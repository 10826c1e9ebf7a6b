#include "os/fresh_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace understudy::os {
namespace {

constexpr std::uintptr_t kHugeNbytes = std::uintptr_t{2} << 20;

// One slow page may be a thread that had to wait for its core.
constexpr int kMaxSlow = 4;

// Only a hint; it changes no bytes.
void populate(std::byte* data, std::uint64_t nbytes) noexcept {
  constexpr int kPopulateWrite = 23;  // of madvise(2), Linux 5.14, which older headers lack
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<std::uintptr_t>(data) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(data) + nbytes;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin, kPopulateWrite);
}

std::uintptr_t address(const std::byte* at) noexcept {
  return reinterpret_cast<std::uintptr_t>(at);
}

// The huge pages that hold `part` and lie in `whole`.
std::span<std::byte> huge_around(std::span<std::byte> part, std::span<std::byte> whole) noexcept {
  const auto up = [](std::uintptr_t at) {
    return (at + kHugeNbytes - 1) / kHugeNbytes * kHugeNbytes;
  };
  const auto down = [](std::uintptr_t at) { return at / kHugeNbytes * kHugeNbytes; };
  const auto begin = std::max(down(address(part.data())), up(address(whole.data())));
  const auto end =
      std::min(up(address(part.data() + part.size())), down(address(whole.data() + whole.size())));
  if (begin >= end) return {};
  return whole.subspan(begin - address(whole.data()), end - begin);
}

}  // namespace

void FreshPages::make(std::span<std::byte> part, std::span<std::byte> whole) noexcept {
  has_any_ = true;
  const auto huge = slow_ < kMaxSlow ? huge_around(part, whole) : std::span<std::byte>();
  if (huge.empty()) return populate(part.data(), part.size());
  madvise(huge.data(), huge.size(), MADV_HUGEPAGE);
  has_huge_ = true;
  const auto began = std::chrono::steady_clock::now();
  populate(part.data(), part.size());
  if (std::chrono::steady_clock::now() - began > limit_) ++slow_;
}

const char* FreshPages::what() const noexcept {
  if (slow_ >= kMaxSlow) return "new memory in small pages, for huge ones were slow";
  if (has_huge_) return "new memory in huge pages where they fit";
  return has_any_ ? "new memory in small pages" : "";
}

}  // namespace understudy::os
