#include "understudy/dtype.h"

#include <array>

namespace understudy {
namespace {

constexpr std::array<DTypeInfo, kDTypeCount> kTable{{
    {DType::boolean, "bool", 1, "BOOL", 1, true},
    {DType::u8, "uint8", 1, "U8", 1, true},
    {DType::i8, "int8", 1, "I8", 1, true},
    {DType::u16, "uint16", 2, "U16", 1, true},
    {DType::i16, "int16", 2, "I16", 1, true},
    {DType::u32, "uint32", 4, "U32", 1, true},
    {DType::i32, "int32", 4, "I32", 1, true},
    {DType::u64, "uint64", 8, "U64", 1, true},
    {DType::i64, "int64", 8, "I64", 1, true},
    {DType::f16, "float16", 2, "F16", 1, true},
    {DType::bf16, "bfloat16", 2, "BF16", 1, true},
    {DType::f32, "float32", 4, "F32", 1, true},
    {DType::f64, "float64", 8, "F64", 1, true},
    {DType::c32, "complex32", 4, "F16", 2, false},
    {DType::c64, "complex64", 8, "C64", 1, true},
    {DType::c128, "complex128", 16, "F64", 2, false},
    {DType::f8_e4m3, "float8_e4m3fn", 1, "F8_E4M3", 1, true},
    {DType::f8_e5m2, "float8_e5m2", 1, "F8_E5M2", 1, true},
    {DType::f8_e4m3fnuz, "float8_e4m3fnuz", 1, "F8_E4M3FNUZ", 1, true},
    {DType::f8_e5m2fnuz, "float8_e5m2fnuz", 1, "F8_E5M2FNUZ", 1, true},
    {DType::f8_e8m0, "float8_e8m0fnu", 1, "F8_E8M0", 1, true},
    {DType::f4_e2m1_x2, "float4_e2m1fn_x2", 1, "F4", 2, true},
    {DType::u1, "uint1", 1, "U8", 1, false},
    {DType::u2, "uint2", 1, "U8", 1, false},
    {DType::u3, "uint3", 1, "U8", 1, false},
    {DType::u4, "uint4", 1, "U8", 1, false},
    {DType::u5, "uint5", 1, "U8", 1, false},
    {DType::u6, "uint6", 1, "U8", 1, false},
    {DType::u7, "uint7", 1, "U8", 1, false},
    {DType::i1, "int1", 1, "I8", 1, false},
    {DType::i2, "int2", 1, "I8", 1, false},
    {DType::i3, "int3", 1, "I8", 1, false},
    {DType::i4, "int4", 1, "I8", 1, false},
    {DType::i5, "int5", 1, "I8", 1, false},
    {DType::i6, "int6", 1, "I8", 1, false},
    {DType::i7, "int7", 1, "I8", 1, false},
    {DType::bits8, "bits8", 1, "U8", 1, false},
    {DType::bits16, "bits16", 2, "U16", 1, false},
    {DType::bits1x8, "bits1x8", 1, "U8", 1, false},
    {DType::bits2x4, "bits2x4", 1, "U8", 1, false},
    {DType::bits4x2, "bits4x2", 1, "U8", 1, false},
}};

constexpr bool is_in_order() {
  for (std::size_t i = 0; i < kTable.size(); ++i) {
    if (static_cast<std::size_t>(kTable[i].dtype) != i) return false;
  }
  return true;
}
static_assert(is_in_order(), "the table is indexed by DType");

}  // namespace

const DTypeInfo& info(DType dtype) noexcept {
  return kTable[static_cast<std::size_t>(dtype)];
}

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const auto& row : kTable) {
    if (row.name == name) return row.dtype;
  }
  return {};
}

std::optional<DType> dtype_from_safetensors(std::string_view name) noexcept {
  for (const auto& row : kTable) {
    if (row.is_exact && row.safetensors == name) return row.dtype;
  }
  return {};
}

}  // namespace understudy
