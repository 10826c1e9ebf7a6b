// Floats of 8 and 16 bits as numbers, and back.
#pragma once

#include <cstdint>

#include "understudy/dtype.h"

namespace understudy::value {

/// True for the types below.
constexpr bool is_small_float(DType dtype) noexcept {
  switch (dtype) {
    case DType::f16:
    case DType::bf16:
    case DType::f8_e4m3:
    case DType::f8_e5m2:
    case DType::f8_e4m3fnuz:
    case DType::f8_e5m2fnuz:
    case DType::f8_e8m0: return true;
    default: return false;
  }
}

/// The number that `bits` spell. `dtype` is a small float.
double decode_small_float(DType dtype, std::uint32_t bits) noexcept;

/// The nearest bits, ties to even. What is too large becomes infinity, or NaN
/// where the type has none, as in torch. `dtype` is a small float, but f8_e8m0.
std::uint32_t encode_small_float(DType dtype, double number) noexcept;

}  // namespace understudy::value
