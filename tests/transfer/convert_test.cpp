#include "transfer/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>

#include "value/small_floats.h"

namespace understudy::transfer {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

template <class T>
Tensor of(DType dtype, const std::vector<T>& values) {
  auto t = Tensor::zeros(dtype, {static_cast<std::int64_t>(values.size())});
  std::memcpy(t.data(), values.data(), values.size() * sizeof(T));
  return t;
}

template <class T>
std::vector<T> to(DType dtype, const Tensor& from) {
  const auto made = Tensor::zeros(dtype, from.shape());
  convert_tensor(from, made);
  std::vector<T> values(static_cast<std::size_t>(from.numel()));
  std::memcpy(values.data(), made.data(), made.nbytes());
  return values;
}

TEST(ConvertTest, SaysWhatItCan) {
  EXPECT_TRUE(can_convert(DType::f32, DType::bf16));
  EXPECT_TRUE(can_convert(DType::boolean, DType::c64));
  EXPECT_TRUE(can_convert(DType::c64, DType::c128));
  EXPECT_FALSE(can_convert(DType::c64, DType::f32)) << "half of it would be lost";
  EXPECT_FALSE(can_convert(DType::u4, DType::u8));
  EXPECT_FALSE(can_convert(DType::f32, DType::f4_e2m1_x2));
}

TEST(ConvertTest, FloatsToIntegersTowardsZeroAndWithinTheirRange) {
  const auto floats = of<double>(DType::f64, {2.9, -2.9, 1e30, -1e30, std::nan(""), 127.5});
  EXPECT_EQ(to<std::int8_t>(DType::i8, floats),
            (std::vector<std::int8_t>{2, -2, 127, -128, 0, 127}));
  EXPECT_EQ(to<std::uint64_t>(DType::u64, floats),
            (std::vector<std::uint64_t>{2, 0, ~std::uint64_t{0}, 0, 0, 127}));
  EXPECT_EQ(to<std::uint8_t>(DType::boolean, of<double>(DType::f64, {0.0, 0.5, -1})),
            (std::vector<std::uint8_t>{0, 1, 1}));
}

TEST(ConvertTest, LargeIntegersKeepEveryBit) {
  const std::vector<std::int64_t> large = {(std::int64_t{1} << 62) + 1, -1};
  EXPECT_EQ(to<std::uint64_t>(DType::u64, of(DType::i64, large)),
            (std::vector<std::uint64_t>{(std::uint64_t{1} << 62) + 1, ~std::uint64_t{0}}));
}

TEST(ConvertTest, ComplexOnes) {
  const auto z = to<std::complex<double>>(DType::c128, of<float>(DType::f32, {1.5f}));
  EXPECT_EQ(z[0], std::complex<double>(1.5, 0));
  const auto back =
      to<std::complex<float>>(DType::c64, of<std::complex<double>>(DType::c128, {{1, 2}}));
  EXPECT_EQ(back[0], std::complex<float>(1, 2));
}

TEST(ConvertTest, AnyStridesAndNoDimensions) {
  const auto from = of<float>(DType::f32, {0, 1, 2, 3, 4, 5});
  const Tensor turned(from.storage(), DType::f32, {3, 2}, {1, 3});
  const auto made = Tensor::zeros(DType::i32, {3, 2});
  convert_tensor(turned, made);
  std::vector<std::int32_t> got(6);
  std::memcpy(got.data(), made.data(), made.nbytes());
  EXPECT_EQ(got, (std::vector<std::int32_t>{0, 3, 1, 4, 2, 5}));
  const Tensor one(from.storage(), DType::f32, {}, {}, 8);
  const auto single = Tensor::zeros(DType::f64, {});
  convert_tensor(one, single);
  double value = 0;
  std::memcpy(&value, single.data(), sizeof value);
  EXPECT_EQ(value, 2);
}

// Every pattern of every small float comes back from its number.
TEST(SmallFloatsTest, EveryPatternRoundTrips) {
  for (const auto dtype : {DType::f16, DType::bf16, DType::f8_e4m3, DType::f8_e5m2,
                           DType::f8_e4m3fnuz, DType::f8_e5m2fnuz}) {
    const std::uint32_t count = 1u << (8 * item_size(dtype));
    for (std::uint32_t bits = 0; bits < count; ++bits) {
      const double number = value::decode_small_float(dtype, bits);
      const auto again = value::encode_small_float(dtype, number);
      if (std::isnan(number)) {
        EXPECT_TRUE(std::isnan(value::decode_small_float(dtype, again)));
      } else {
        ASSERT_EQ(again, bits) << name(dtype) << " " << number;
      }
    }
  }
}

TEST(SmallFloatsTest, RoundsToTheNearestAndTiesToEven) {
  using value::encode_small_float;
  EXPECT_EQ(encode_small_float(DType::f16, 1 + std::ldexp(1, -11)), 0x3c00u);
  EXPECT_EQ(encode_small_float(DType::f16, 1 + std::ldexp(3, -11)), 0x3c02u);
  EXPECT_EQ(encode_small_float(DType::f16, 1 + std::ldexp(1, -11) + 1e-9), 0x3c01u);
  EXPECT_EQ(encode_small_float(DType::f16, 65520), 0x7c00u) << "infinity";
  EXPECT_EQ(encode_small_float(DType::f16, std::ldexp(1, -26)), 0u);
  EXPECT_EQ(encode_small_float(DType::bf16, 1 + std::ldexp(1, -8)), 0x3f80u);
  // Above half of the last place by less than a float can tell.
  EXPECT_EQ(encode_small_float(DType::bf16, 1 + std::ldexp(1, -8) + 1e-12), 0x3f81u);
  EXPECT_EQ(encode_small_float(DType::bf16, -kInf), 0xff80u);
  EXPECT_EQ(encode_small_float(DType::f8_e4m3, 1e6), 0x7fu) << "NaN: it has no infinity";
  EXPECT_EQ(encode_small_float(DType::f8_e4m3fnuz, -0.0), 0u);
  EXPECT_EQ(encode_small_float(DType::f8_e4m3fnuz, kInf), 0x80u);
}

}  // namespace
}  // namespace understudy::transfer
