#include "vm/prefault.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/checked.h"
#include "vm/pages.h"

namespace understudy::vm {
namespace {

// One slow page may be a thread that had to wait for its core.
constexpr int kMaxSlow = 4;

std::uintptr_t address(const std::byte* at) noexcept {
  return reinterpret_cast<std::uintptr_t>(at);
}

// The huge pages that hold `part` and lie in `whole`.
std::span<std::byte> huge_around(std::span<std::byte> part, std::span<std::byte> whole) noexcept {
  constexpr std::uintptr_t kHuge = kHugePageNbytes;
  const auto up = [](std::uintptr_t at) { return round_up(at, kHuge); };
  const auto down = [](std::uintptr_t at) { return at / kHuge * kHuge; };
  const auto begin = std::max(down(address(part.data())), up(address(whole.data())));
  const auto end =
      std::min(up(address(part.data() + part.size())), down(address(whole.data() + whole.size())));
  if (begin >= end) return {};
  return whole.subspan(begin - address(whole.data()), end - begin);
}

}  // namespace

void Prefault::make(std::span<std::byte> part, std::span<std::byte> whole) noexcept {
  has_any_ = true;
  const auto huge = slow_ < kMaxSlow ? huge_around(part, whole) : std::span<std::byte>();
  if (huge.empty()) {
    populate(part.data(), part.size());  // a hint: what it cannot make, a fault will
    return;
  }
  advise(huge.data(), huge.size(), MADV_HUGEPAGE);
  has_huge_ = true;
  const auto began = std::chrono::steady_clock::now();
  populate(part.data(), part.size());
  if (std::chrono::steady_clock::now() - began > limit_) ++slow_;
}

const char* Prefault::what() const noexcept {
  if (slow_ >= kMaxSlow) return "new memory in small pages, for huge ones were slow";
  if (has_huge_) return "new memory in huge pages where they fit";
  return has_any_ ? "new memory in small pages" : "";
}

}  // namespace understudy::vm
