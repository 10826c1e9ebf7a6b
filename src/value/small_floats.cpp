#include "value/small_floats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace understudy::value {
namespace {

/// How a small binary floating-point type spells its numbers.
struct Spelling {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  enum class Specials {
    ieee,  ///< the largest exponent means infinity and NaN
    fn,    ///< all ones means NaN, no infinity
    fnuz,  ///< the pattern of negative zero means NaN, no infinity
  } specials;

  int sign_shift() const noexcept { return exponent_bits + mantissa_bits; }
  std::uint32_t all_but_sign() const noexcept { return (1u << sign_shift()) - 1; }
  std::uint32_t infinity() const noexcept { return ((1u << exponent_bits) - 1) << mantissa_bits; }
};

using Specials = Spelling::Specials;

Spelling spelling(DType dtype) noexcept {
  switch (dtype) {
    case DType::bf16: return {8, 7, 127, Specials::ieee};
    case DType::f8_e4m3: return {4, 3, 7, Specials::fn};
    case DType::f8_e5m2: return {5, 2, 15, Specials::ieee};
    case DType::f8_e4m3fnuz: return {4, 3, 8, Specials::fnuz};
    case DType::f8_e5m2fnuz: return {5, 2, 16, Specials::fnuz};
    default: return {5, 10, 15, Specials::ieee};  // f16
  }
}

std::uint32_t nan_of(const Spelling& s) noexcept {
  switch (s.specials) {
    case Specials::ieee: return s.infinity() | (1u << (s.mantissa_bits - 1));
    case Specials::fn: return s.all_but_sign();
    case Specials::fnuz: break;
  }
  return 1u << s.sign_shift();
}

}  // namespace

double decode_small_float(DType dtype, std::uint32_t bits) noexcept {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (dtype == DType::f8_e8m0) {  // no sign, no mantissa
    return bits == 0xff ? kNan : std::ldexp(1.0, static_cast<int>(bits) - 127);
  }
  // The upper half of a float.
  if (dtype == DType::bf16) return std::bit_cast<float>(bits << 16);
  const Spelling s = spelling(dtype);
  const bool is_negative = bits >> s.sign_shift() != 0;
  const std::uint32_t rest = bits & s.all_but_sign();
  const std::uint32_t mantissa = rest & ((1u << s.mantissa_bits) - 1);
  const std::uint32_t exponent = rest >> s.mantissa_bits;
  if (s.specials == Specials::fnuz && is_negative && rest == 0) return kNan;
  if (s.specials == Specials::fn && rest == s.all_but_sign()) return kNan;
  double value;
  if (s.specials == Specials::ieee && rest >= s.infinity()) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : kNan;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - s.bias - s.mantissa_bits);
  } else {
    value = std::ldexp(mantissa | (1u << s.mantissa_bits),
                       static_cast<int>(exponent) - s.bias - s.mantissa_bits);
  }
  return is_negative ? -value : value;
}

std::uint32_t encode_small_float(DType dtype, double number) noexcept {
  const Spelling s = spelling(dtype);
  if (std::isnan(number)) return nan_of(s);
  if (const auto single = static_cast<float>(number); dtype == DType::bf16 && single == number) {
    // The usual case, from a float: half of the last place, and ties to even.
    const auto bits = std::bit_cast<std::uint32_t>(single);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  }
  const std::uint32_t sign = std::signbit(number) ? 1u << s.sign_shift() : 0;
  const double size = std::abs(number);
  // Infinity is more than any type has.
  std::uint32_t bits = std::numeric_limits<std::uint32_t>::max();
  if (size <= std::numeric_limits<float>::max()) {
    int exponent = 0;
    std::frexp(size, &exponent);  // size is in [2^(exponent - 1), 2^exponent)
    const int lowest = 1 - s.bias;
    const int scale = size == 0 ? lowest : std::max(exponent - 1, lowest);
    // In units of the last place; a carry runs into the exponent's bits, as it should.
    const auto units =
        static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, s.mantissa_bits - scale)));
    bits = units + (static_cast<std::uint32_t>(scale - lowest) << s.mantissa_bits);
  }
  switch (s.specials) {
    case Specials::ieee: return sign | std::min(bits, s.infinity());
    case Specials::fn: return sign | std::min(bits, s.all_but_sign());
    case Specials::fnuz: break;
  }
  // Zero has one pattern only: the other is NaN, which is what overflows become.
  if (bits == 0) return 0;
  return bits > s.all_but_sign() ? nan_of(s) : sign | bits;
}

}  // namespace understudy::value
