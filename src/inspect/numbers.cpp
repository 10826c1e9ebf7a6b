#include "inspect/numbers.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace understudy::inspect {
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
};

using Specials = Spelling::Specials;
constexpr Spelling kHalf{5, 10, 15, Specials::ieee};
constexpr Spelling kE4M3{4, 3, 7, Specials::fn};
constexpr Spelling kE5M2{5, 2, 15, Specials::ieee};
constexpr Spelling kE4M3Fnuz{4, 3, 8, Specials::fnuz};
constexpr Spelling kE5M2Fnuz{5, 2, 16, Specials::fnuz};

double decode(const Spelling& s, std::uint32_t bits) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::uint32_t sign = bits >> (s.exponent_bits + s.mantissa_bits);
  const std::uint32_t rest = bits & ((1u << (s.exponent_bits + s.mantissa_bits)) - 1);
  const std::uint32_t mantissa = rest & ((1u << s.mantissa_bits) - 1);
  const std::uint32_t exponent = rest >> s.mantissa_bits;
  const std::uint32_t all_ones = (1u << s.exponent_bits) - 1;
  if (s.specials == Specials::fnuz && sign != 0 && rest == 0) return kNan;
  if (s.specials == Specials::fn && rest == (1u << (s.exponent_bits + s.mantissa_bits)) - 1) {
    return kNan;
  }
  double value;
  if (s.specials == Specials::ieee && exponent == all_ones) {
    value = mantissa == 0 ? std::numeric_limits<double>::infinity() : kNan;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - s.bias - s.mantissa_bits);
  } else {
    value = std::ldexp(mantissa | (1u << s.mantissa_bits),
                       static_cast<int>(exponent) - s.bias - s.mantissa_bits);
  }
  return sign != 0 ? -value : value;
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

double half(const std::byte* from) {
  return decode(kHalf, load<std::uint16_t>(from));
}

double number(DType dtype, const std::byte* from) {
  switch (dtype) {
    case DType::f16: return half(from);
    case DType::bf16:
      return std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(from)) << 16);
    case DType::f32: return load<float>(from);
    case DType::f64: return load<double>(from);
    case DType::f8_e4m3: return decode(kE4M3, load<std::uint8_t>(from));
    case DType::f8_e5m2: return decode(kE5M2, load<std::uint8_t>(from));
    case DType::f8_e4m3fnuz: return decode(kE4M3Fnuz, load<std::uint8_t>(from));
    case DType::f8_e5m2fnuz: return decode(kE5M2Fnuz, load<std::uint8_t>(from));
    case DType::f8_e8m0: {
      const auto exponent = load<std::uint8_t>(from);  // no sign, no mantissa
      return exponent == 0xff ? std::numeric_limits<double>::quiet_NaN()
                              : std::ldexp(1.0, exponent - 127);
    }
    default: return std::numeric_limits<double>::quiet_NaN();
  }
}

/// The type of the two parts of a complex one, or the type itself.
DType part(DType dtype) {
  switch (dtype) {
    case DType::c32: return DType::f16;
    case DType::c64: return DType::f32;
    case DType::c128: return DType::f64;
    default: return dtype;
  }
}

}  // namespace

std::optional<double> distance(DType dtype, const std::byte* a, const std::byte* b) {
  const auto of = part(dtype);
  double largest = 0;
  for (std::size_t at = 0; at < item_size(dtype); at += item_size(of)) {
    const double x = number(of, a + at), y = number(of, b + at);
    const double d = x == y ? 0 : std::abs(x - y);  // equal infinities are no NaN apart
    if (std::isnan(d)) return {};
    largest = std::max(largest, d);
  }
  return largest;
}

}  // namespace understudy::inspect
