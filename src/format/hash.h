// XXH3, by xxHash, with the widest vectors that this processor has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace understudy::format {

/// XXH3 with 64 bits, seed 0.
std::uint64_t hash64(std::span<const std::byte> bytes) noexcept;

/// The same of bytes that come in pieces, in order.
class Hash64 {
 public:
  Hash64() noexcept { reset(); }
  void reset() noexcept;
  void add(std::span<const std::byte> bytes) noexcept;
  std::uint64_t value() const noexcept;

 private:
  alignas(64) std::array<std::byte, 576> state_;
};

/// XXH3 with 128 bits, seed 0, as 32 lower-case hex digits (canonical order:
/// high half first).
std::string hash128_hex(std::span<const std::byte> bytes);

/// 16 lower-case hex digits, most significant first.
std::string hex64(std::uint64_t value);

/// The value of exactly 16 lower-case hex digits; false when they are not.
bool parse_hex64(std::string_view digits, std::uint64_t& value) noexcept;

/// The vector width in use: "avx512", "avx2", "sse2", "neon", "scalar".
std::string_view hash_kernel() noexcept;

}  // namespace understudy::format
