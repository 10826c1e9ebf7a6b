#include "format/hash.h"

#include "format/hash_kernel.h"
#include "format/text.h"

namespace understudy::format {
namespace {

const HashKernel& choose() noexcept {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return kAvx512Kernel;
  if (__builtin_cpu_supports("avx2")) return kAvx2Kernel;
#endif
  return kPlainKernel;
}

}  // namespace

const HashKernel& chosen_hash_kernel() noexcept {
  static const HashKernel& kernel = choose();
  return kernel;
}

std::uint64_t hash64(std::span<const std::byte> bytes) noexcept {
  return chosen_hash_kernel().hash64(bytes.data(), bytes.size());
}

void Hash64::reset() noexcept {
  static_assert(sizeof state_ == kHashStateNbytes && alignof(Hash64) == kHashStateAlignment);
  chosen_hash_kernel().begin64(state_.data());
}

void Hash64::add(std::span<const std::byte> bytes) noexcept {
  chosen_hash_kernel().add64(state_.data(), bytes.data(), bytes.size());
}

std::uint64_t Hash64::value() const noexcept {
  return chosen_hash_kernel().end64(state_.data());
}

std::string hash128_hex(std::span<const std::byte> bytes) {
  const auto hash = chosen_hash_kernel().hash128(bytes.data(), bytes.size());
  return hex64(hash.high) + hex64(hash.low);
}

std::string hex64(std::uint64_t value) {
  std::string text(16, '0');
  for (int i = 15; i >= 0; --i, value >>= 4) text[i] = kHexDigits[value & 15];
  return text;
}

bool parse_hex64(std::string_view digits, std::uint64_t& value) noexcept {
  if (digits.size() != 16) return false;
  std::uint64_t result = 0;
  for (const char c : digits) {
    const int digit = hex_digit_value(c);
    if (digit < 0) return false;
    result = result << 4 | static_cast<std::uint64_t>(digit);
  }
  value = result;
  return true;
}

std::string_view hash_kernel() noexcept {
  return chosen_hash_kernel().name;
}

}  // namespace understudy::format
