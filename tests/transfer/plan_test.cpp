#include "transfer/plan.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "format/tree.h"
#include "transfer/copy_tensors.h"
#include "value/walk.h"

namespace understudy::transfer {
namespace {

// Byte of an element of a tensor, found the slow and certain way.
const std::byte* element(const Tensor& t, std::int64_t flat) {
  auto* at = t.data();
  const auto item = static_cast<std::int64_t>(item_size(t.dtype()));
  for (std::size_t d = t.shape().size(); d-- > 0;) {
    at += flat % t.shape()[d] * t.strides()[d] * item;
    flat /= t.shape()[d];
  }
  return at;
}

void expect_equal(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.shape(), b.shape());
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    ASSERT_EQ(0, std::memcmp(element(a, i), element(b, i), item_size(a.dtype())))
        << "element " << i;
  }
}

class PlanTest : public ::testing::Test {
 protected:
  PlanTest() {
    std::mt19937 random(1);
    for (auto& x : memory_) x = static_cast<std::int32_t>(random());
  }

  Tensor view(Dims shape, Dims strides, std::int64_t offset = 0) {
    return Tensor::borrow(memory_.data() + offset, DType::i32, std::move(shape),
                          std::move(strides));
  }

  // Fills by ranges of `step` bytes and checks every tensor against its source.
  void check(const std::vector<Tensor>& tensors, std::uint64_t step) {
    Value::Pairs pairs;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      pairs.emplace_back(std::to_string(i), tensors[i]);
    }
    const auto state = Value::dict(std::move(pairs));
    auto extents = value::find_extents(value::tensors_of(state));
    const auto placements = extents.placements;
    const auto layout = format::make_layout(state, extents, {});
    const auto offsets = layout.extent_offsets;
    Plan plan(layout, std::move(extents));
    const auto data = Storage::allocate(layout.data_nbytes);
    std::memset(data->data(), 0xee, data->nbytes());
    for (std::uint64_t at = 0; at < layout.data_nbytes; at += step) {
      plan.fill(at, {data->data() + at, std::min(step, layout.data_nbytes - at)}, true);
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto& p = placements[i];
      expect_equal(tensors[i], Tensor(data, DType::i32, tensors[i].shape(), p.strides,
                                      offsets[p.extent] + p.byte_offset));
    }
  }

  std::vector<std::int32_t> memory_ = std::vector<std::int32_t>(20000);
};

TEST_F(PlanTest, EveryKindOfExtentArrives) {
  for (const std::uint64_t step : {4096u, 100u, 7u}) {
    check({view({10, 20}, {})}, step);
    check({view({20, 10}, {1, 20})}, step);
    check({view({100, 3}, {100, 1}, 5)}, step);
    check({view({10, 80}, {100, 1})}, step);
    check({view({100, 4}, {100, 1}), view({100, 4}, {100, 1}, 2), view({7}, {}, 12000)}, step);
    check({view({4, 4}, {3, 2}), view({98, 3}, {1, 1}, 500)}, step);
    check({view({5, 6, 7}, {1000, 50, 3}), view({10}, {-1}, 19999)}, step);
    check({view({50, 60}, {100, 1}), view({60, 50}, {1, 100})}, step);
  }
}

TEST_F(PlanTest, RandomViewsArrive) {
  std::mt19937 random(2);
  const auto below = [&](int n) { return static_cast<std::int64_t>(random() % n); };
  for (int round = 0; round < 200; ++round) {
    std::vector<Tensor> tensors;
    for (int i = 0; i < 4; ++i) {
      tensors.push_back(view({1 + below(6), 1 + below(6), 1 + below(9)},
                             {below(300), below(60), below(5)}, below(1000)));
    }
    check(tensors, 1 + static_cast<std::uint64_t>(below(300)));
  }
}

TEST_F(PlanTest, GapsAreZeroAndNeverSomebodysMemory) {
  const auto state = Value::dict({{"w", view({10, 80}, {100, 1})}});
  auto extents = value::find_extents(value::tensors_of(state));
  const auto layout = format::make_layout(state, extents, {});
  Plan plan(layout, std::move(extents));
  std::vector<std::byte> data(layout.data_nbytes, std::byte{0xee});
  plan.fill(0, data, true);
  for (std::size_t row = 0; row < 9; ++row) {
    for (std::size_t i = 80 * 4; i < 100 * 4; ++i) {
      ASSERT_EQ(std::to_integer<int>(data[row * 400 + i]), 0);
    }
  }
}

TEST_F(PlanTest, CopyTensorsHandlesAnyStridesAndSharing) {
  WorkerPool workers("test", 2);
  const auto storage = Storage::allocate(3000 * 3000 * 4);
  std::vector<TensorCopy> copies;
  std::vector<std::int32_t> large(2000 * 1000, 5);
  copies.push_back({Tensor::borrow(large.data(), DType::i32, {2000, 1000}),
                    Tensor(storage, DType::i32, {2000, 1000})});
  copies.push_back(
      {view({30, 40}, {1, 30}), Tensor(storage, DType::i32, {30, 40}, {50, 1}, 16000000)});
  copies.push_back({view({10}, {-1}, 9), Tensor(storage, DType::i32, {10}, {2}, 20000000)});
  copies.push_back({view({0}, {}), Tensor(storage, DType::i32, {0})});
  copies.push_back({view({}, {}, 3), Tensor(storage, DType::i32, {}, {}, 24000000)});
  copy_tensors(copies, workers);
  for (const auto& c : copies) expect_equal(c.from, c.to);
  // The later of two targets that share memory wins.
  const Tensor both(storage, DType::i32, {4});
  copy_tensors({{view({4}, {}, 0), both}, {view({4}, {}, 100), both}}, workers);
  expect_equal(view({4}, {}, 100), both);
}

}  // namespace
}  // namespace understudy::transfer
