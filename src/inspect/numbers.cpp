#include "inspect/numbers.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "value/small_floats.h"

namespace understudy::inspect {
namespace {

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

double number(DType dtype, const std::byte* from) {
  if (dtype == DType::f32) return load<float>(from);
  if (dtype == DType::f64) return load<double>(from);
  if (!value::is_small_float(dtype)) return std::numeric_limits<double>::quiet_NaN();
  const std::uint32_t bits =
      item_size(dtype) == 1 ? load<std::uint8_t>(from) : load<std::uint16_t>(from);
  return value::decode_small_float(dtype, bits);
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
