#include "value/strided_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace understudy::value {
namespace {

// One element at a time.
void copy_slowly(const Tensor& from, const Tensor& to) {
  const auto item = static_cast<std::int64_t>(item_size(from.dtype()));
  for (std::int64_t n = 0; n < from.numel(); ++n) {
    std::int64_t rest = n, source = 0, target = 0;
    for (std::size_t d = from.shape().size(); d-- > 0;) {
      const auto i = rest % from.shape()[d];
      rest /= from.shape()[d];
      source += i * from.strides()[d];
      target += i * to.strides()[d];
    }
    std::copy_n(from.data() + source * item, item, to.data() + target * item);
  }
}

// A view of `shape` over a random part of new memory, in a random order of dimensions, some of
// them reversed.
Tensor random_view(DType dtype, const Dims& shape, std::mt19937& random) {
  std::vector<std::size_t> order(shape.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  Dims strides(shape.size());
  std::int64_t step = 1 + static_cast<std::int64_t>(random() % 2), first = 0;
  for (const auto d : order) {
    strides[d] = step;
    step *= shape[d] + static_cast<std::int64_t>(random() % 2);
    if (random() % 4 == 0) {
      first += strides[d] * (shape[d] - 1);
      strides[d] = -strides[d];
    }
  }
  const auto item = item_size(dtype);
  const auto storage = Storage::allocate(static_cast<std::uint64_t>(step + 1) * 2 * item);
  for (std::uint64_t i = 0; i < storage->nbytes(); ++i) {
    storage->data()[i] = static_cast<std::byte>(random());
  }
  return {storage, dtype, shape, strides, static_cast<std::uint64_t>(first) * item};
}

TEST(StridedCopy, IsThatOfSingleElements) {
  std::mt19937 random(7);
  const DType dtypes[] = {DType::u8, DType::bf16, DType::f32, DType::f64, DType::c128};
  for (int round = 0; round < 2000; ++round) {
    Dims shape(random() % 5);
    for (auto& n : shape) n = 1 + static_cast<std::int64_t>(random() % (round % 10 == 0 ? 40 : 4));
    const auto dtype = dtypes[random() % 5];
    const auto from = random_view(dtype, shape, random);
    const auto to = random_view(dtype, shape, random);
    const auto expected = Storage::allocate(to.storage()->nbytes());
    std::copy_n(to.storage()->data(), to.storage()->nbytes(), expected->data());
    copy_slowly(from, Tensor(expected, dtype, shape, to.strides(), to.byte_offset()));
    copy_strided(from, to);
    ASSERT_TRUE(
        std::equal(expected->data(), expected->data() + expected->nbytes(), to.storage()->data()))
        << "round " << round;
  }
}

TEST(StridedCopy, EmptyTensorsAndScalars) {
  std::mt19937 random(7);
  const auto from = random_view(DType::f32, {}, random), to = random_view(DType::f32, {}, random);
  copy_strided(from, to);
  EXPECT_TRUE(std::equal(from.data(), from.data() + 4, to.data()));
  copy_strided(Tensor::zeros(DType::f32, {3, 0}), Tensor::zeros(DType::f32, {3, 0}));
}

}  // namespace
}  // namespace understudy::value
