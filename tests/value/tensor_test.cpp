#include "understudy/tensor.h"

#include <gtest/gtest.h>

#include <limits>

#include "fakes/expect_error.h"

namespace understudy {
namespace {

using fakes::expect_error;

TEST(DTypeTest, NamesGoBothWays) {
  for (std::size_t i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_name(name(dtype)), dtype);
    if (info(dtype).is_exact) {
      EXPECT_EQ(dtype_from_safetensors(info(dtype).safetensors), dtype);
    }
  }
  EXPECT_FALSE(dtype_from_name("float31"));
  EXPECT_FALSE(dtype_from_safetensors("F6_E2M3"));
}

TEST(TensorTest, ViewsLieWithinTheirStorage) {
  const auto storage = Storage::allocate(40);
  EXPECT_NO_THROW(Tensor(storage, DType::f32, {10}));
  EXPECT_NO_THROW(Tensor(storage, DType::f32, {10}, {-1}, 36));
  EXPECT_NO_THROW(Tensor(storage, DType::f32, {1000}, {0}));
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {11}); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {10}, {1}, 4); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {2}, {-1}, 0); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {-1}); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {2}, {1, 1}); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(nullptr, DType::f32, {1}); });
}

TEST(TensorTest, SizesThatOverflowAreRefused) {
  const auto storage = Storage::allocate(8);
  const std::int64_t huge = std::int64_t{1} << 62;
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {huge, 4}, {0, 0}); });
  expect_error(ErrorCode::invalid, "", [&] { Tensor(storage, DType::f32, {2}, {huge}); });
  expect_error(ErrorCode::invalid, "", [&] {
    Tensor(storage, DType::f32, {2}, {std::numeric_limits<std::int64_t>::min()});
  });
}

TEST(TensorTest, ContiguityIgnoresSingleAndEmptyDimensions) {
  const auto storage = Storage::allocate(4096);
  EXPECT_TRUE(Tensor(storage, DType::u8, {2, 1, 3}, {3, 77, 1}).is_contiguous());
  EXPECT_TRUE(Tensor(storage, DType::u8, {5, 0}, {7, 9}).is_contiguous());
  EXPECT_TRUE(Tensor(storage, DType::u8, {}).is_contiguous());
  EXPECT_FALSE(Tensor(storage, DType::u8, {3, 2}, {1, 3}).is_contiguous());
}

TEST(StorageTest, LargeMemoryIsZeroedAndAligned) {
  const auto large = Storage::allocate(std::uint64_t{9} << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large->data()) % (2u << 20), 0u);
  EXPECT_EQ(std::to_integer<int>(large->data()[large->nbytes() - 1]), 0);
  const auto small = Storage::allocate(3);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small->data()) % 64, 0u);
}

TEST(Tensor, HasAtMost64Dimensions) {
  EXPECT_EQ(Tensor::zeros(DType::u8, Dims(64, 1)).shape().size(), 64u);
  fakes::expect_error(ErrorCode::unsupported, "65 dimensions",
                      [] { Tensor::zeros(DType::u8, Dims(65, 1)); });
}

}  // namespace
}  // namespace understudy
