#include "transfer/convert.h"

#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "value/small_floats.h"

namespace understudy::transfer {
namespace {

using Complex = std::complex<double>;

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

template <class T, class Number>
T to_real(Number number) {
  if constexpr (std::is_same_v<T, bool>) {
    return number != 0;
  } else if constexpr (std::is_floating_point_v<Number> && std::is_integral_v<T>) {
    using Limits = std::numeric_limits<T>;
    if (std::isnan(number)) return 0;
    if (number <= static_cast<double>(Limits::min())) return Limits::min();
    // The largest integer itself may be no double: from the next power of two on all is too large.
    if (number >= std::ldexp(1.0, Limits::digits)) return Limits::max();
    return static_cast<T>(number);
  } else {
    return static_cast<T>(number);
  }
}

/// An element type that C++ has.
template <class T>
struct Real {
  static auto read(const std::byte* from) {
    if constexpr (std::is_same_v<T, bool>) {
      return static_cast<std::int64_t>(load<std::uint8_t>(from) != 0);
    } else if constexpr (std::is_floating_point_v<T>) {
      return static_cast<double>(load<T>(from));
    } else if constexpr (std::is_signed_v<T>) {
      return static_cast<std::int64_t>(load<T>(from));
    } else {
      return static_cast<std::uint64_t>(load<T>(from));
    }
  }
  template <class Number>
  static void write(std::byte* to, Number number) {
    if constexpr (!std::is_same_v<Number, Complex>) store(to, to_real<T>(number));
  }
};

template <DType D, class Bits>
struct Small {
  static double read(const std::byte* from) {
    return value::decode_small_float(D, load<Bits>(from));
  }
  template <class Number>
  static void write(std::byte* to, Number number) {
    if constexpr (!std::is_same_v<Number, Complex>) {
      store(to, static_cast<Bits>(value::encode_small_float(D, static_cast<double>(number))));
    }
  }
};

/// Two of Part.
template <class Part, std::size_t kPartSize>
struct Pair {
  static Complex read(const std::byte* from) {
    return {Part::read(from), Part::read(from + kPartSize)};
  }
  template <class Number>
  static void write(std::byte* to, Number number) {
    if constexpr (std::is_same_v<Number, Complex>) {
      Part::write(to, number.real());
      Part::write(to + kPartSize, number.imag());
    } else {
      Part::write(to, number);
      Part::write(to + kPartSize, 0.0);
    }
  }
};

using Half = Small<DType::f16, std::uint16_t>;

/// Calls `use` with the element type; false for one that is no number.
template <class Use>
bool with_element(DType dtype, const Use& use) {
  switch (dtype) {
    case DType::boolean: use(Real<bool>()); return true;
    case DType::u8: use(Real<std::uint8_t>()); return true;
    case DType::i8: use(Real<std::int8_t>()); return true;
    case DType::u16: use(Real<std::uint16_t>()); return true;
    case DType::i16: use(Real<std::int16_t>()); return true;
    case DType::u32: use(Real<std::uint32_t>()); return true;
    case DType::i32: use(Real<std::int32_t>()); return true;
    case DType::u64: use(Real<std::uint64_t>()); return true;
    case DType::i64: use(Real<std::int64_t>()); return true;
    case DType::f16: use(Half()); return true;
    case DType::bf16: use(Small<DType::bf16, std::uint16_t>()); return true;
    case DType::f32: use(Real<float>()); return true;
    case DType::f64: use(Real<double>()); return true;
    case DType::c32: use(Pair<Half, 2>()); return true;
    case DType::c64: use(Pair<Real<float>, 4>()); return true;
    case DType::c128: use(Pair<Real<double>, 8>()); return true;
    case DType::f8_e4m3: use(Small<DType::f8_e4m3, std::uint8_t>()); return true;
    case DType::f8_e5m2: use(Small<DType::f8_e5m2, std::uint8_t>()); return true;
    case DType::f8_e4m3fnuz: use(Small<DType::f8_e4m3fnuz, std::uint8_t>()); return true;
    case DType::f8_e5m2fnuz: use(Small<DType::f8_e5m2fnuz, std::uint8_t>()); return true;
    default: return false;
  }
}

bool is_number(DType dtype) noexcept {
  return with_element(dtype, [](auto) {});
}

bool is_complex(DType dtype) noexcept {
  return dtype == DType::c32 || dtype == DType::c64 || dtype == DType::c128;
}

/// A row of elements: the innermost dimension.
using ConvertRow = void (*)(const std::byte* from, std::int64_t from_step, std::byte* to,
                            std::int64_t to_step, std::int64_t count);

template <class From, class To>
void convert_row(const std::byte* from, std::int64_t from_step, std::byte* to, std::int64_t to_step,
                 std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    To::write(to + i * to_step, From::read(from + i * from_step));
  }
}

ConvertRow row_converter(DType from, DType to) {
  ConvertRow found = nullptr;
  with_element(from, [&]<class From>(From) {
    with_element(to, [&]<class To>(To) { found = &convert_row<From, To>; });
  });
  return found;
}

}  // namespace

bool can_convert(DType from, DType to) noexcept {
  return is_number(from) && is_number(to) && (is_complex(to) || !is_complex(from));
}

void convert_tensor(const Tensor& from, const Tensor& to) {
  if (from.numel() == 0) return;
  const ConvertRow row = row_converter(from.dtype(), to.dtype());
  const auto from_item = static_cast<std::int64_t>(item_size(from.dtype()));
  const auto to_item = static_cast<std::int64_t>(item_size(to.dtype()));
  const auto& shape = from.shape();
  const std::size_t outer = shape.empty() ? 0 : shape.size() - 1;
  const std::int64_t count = shape.empty() ? 1 : shape.back();
  const std::int64_t from_step = shape.empty() ? 0 : from.strides().back() * from_item;
  const std::int64_t to_step = shape.empty() ? 0 : to.strides().back() * to_item;
  // A counter over the outer dimensions: their number comes from a file, so nothing recurses.
  Dims at(outer, 0);
  const std::byte* source = from.data();
  std::byte* target = to.data();
  for (;;) {
    row(source, from_step, target, to_step, count);
    std::size_t d = outer;
    for (; d > 0; --d) {
      const auto dim = d - 1;
      source += from.strides()[dim] * from_item;
      target += to.strides()[dim] * to_item;
      if (++at[dim] < shape[dim]) break;
      source -= shape[dim] * from.strides()[dim] * from_item;
      target -= shape[dim] * to.strides()[dim] * to_item;
      at[dim] = 0;
    }
    if (d == 0) return;
  }
}

}  // namespace understudy::transfer
