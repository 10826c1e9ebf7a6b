// Element types, named as PyTorch and NumPy name them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace understudy {

/// Every element type that a tensor may have. The order is not a contract;
/// files carry names.
enum class DType : std::uint8_t {
  boolean,
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  u64,
  i64,
  f16,
  bf16,
  f32,
  f64,
  c32,
  c64,
  c128,  // complex: two halves, floats, doubles
  f8_e4m3,
  f8_e5m2,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  f8_e8m0,
  f4_e2m1_x2,  // two 4-bit floats in a byte; shapes count bytes
  // torch's narrow integers: one byte an element
  u1,
  u2,
  u3,
  u4,
  u5,
  u6,
  u7,
  i1,
  i2,
  i3,
  i4,
  i5,
  i6,
  i7,
  bits8,
  bits16,
  bits1x8,
  bits2x4,
  bits4x2,
};

/// Number of element types.
inline constexpr std::size_t kDTypeCount = static_cast<std::size_t>(DType::bits4x2) + 1;

/// What is known of an element type.
struct DTypeInfo {
  DType dtype;                   ///< the type itself
  std::string_view name;         ///< PyTorch's name: "float32", "float8_e4m3fn"
  std::size_t item_size;         ///< bytes of one element
  std::string_view safetensors;  ///< nearest type in a safetensors file: "F32"
  std::int64_t components;       ///< elements of that type for one of ours (2 for c128 as F64)
  bool is_exact;  ///< the safetensors type says all; else the tree must name the dtype
};

/// The row of the table for `dtype`.
const DTypeInfo& info(DType dtype) noexcept;

/// Bytes of one element.
inline std::size_t item_size(DType dtype) noexcept {
  return info(dtype).item_size;
}
/// PyTorch's name of the type: "float32".
inline std::string_view name(DType dtype) noexcept {
  return info(dtype).name;
}

/// The type with PyTorch's name, or nothing.
std::optional<DType> dtype_from_name(std::string_view name) noexcept;

/// The type that a safetensors dtype string loads as, or nothing (F6 types).
std::optional<DType> dtype_from_safetensors(std::string_view name) noexcept;

}  // namespace understudy
