// Arithmetic that says when it would overflow.
#pragma once

#include <concepts>
#include <optional>

namespace understudy {

template <std::integral T>
[[nodiscard]] std::optional<T> checked_add(T a, T b) noexcept {
  T r;
  if (__builtin_add_overflow(a, b, &r)) return {};
  return r;
}

template <std::integral T>
[[nodiscard]] std::optional<T> checked_mul(T a, T b) noexcept {
  T r;
  if (__builtin_mul_overflow(a, b, &r)) return {};
  return r;
}

/// The next multiple of `unit` (a power of two). The caller has made sure that
/// it fits.
template <std::unsigned_integral T>
[[nodiscard]] constexpr T round_up(T value, T unit) noexcept {
  return (value + unit - 1) & ~(unit - 1);
}

}  // namespace understudy
