#include "value/file_form.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>

namespace understudy::value {
namespace {

using testing::ElementsAre;
using testing::Optional;

class FileFormTest : public testing::Test {
 protected:
  FileFormTest() { std::iota(bytes_.begin(), bytes_.end(), 0.0F); }

  // A view of the 24 floats.
  void add(Dims shape, Dims strides, std::uint64_t offset = 0) {
    tensors_.push_back(
        Tensor(storage_, DType::f32, std::move(shape), std::move(strides), 4 * offset));
  }

  FileForm form() {
    std::vector<const Tensor*> pointers;
    for (const auto& t : tensors_) pointers.push_back(&t);
    return file_form(pointers, find_extents(pointers));
  }

  // The floats that an extent gets, run by run.
  static std::vector<float> floats(const Extent& extent) {
    std::vector<float> out(extent.nbytes / 4);
    for (const auto& copy : extent.copies) {
      std::vector<std::int64_t> index(copy.counts.size());
      for (bool more = true; more;) {
        auto from = copy.source;
        auto to = copy.destination;
        for (std::size_t k = 0; k < index.size(); ++k) {
          from += index[k] * copy.source_strides[k];
          to += static_cast<std::uint64_t>(index[k] * copy.destination_strides[k]);
        }
        std::memcpy(reinterpret_cast<std::byte*>(out.data()) + to, from, copy.run_nbytes);
        more = false;
        for (std::size_t k = index.size(); k-- > 0 && !more;) {
          if (++index[k] < copy.counts[k])
            more = true;
          else
            index[k] = 0;
        }
      }
    }
    return out;
  }

  std::vector<float> bytes_ = std::vector<float>(24);
  std::shared_ptr<const Storage> storage_ =
      std::make_shared<Storage>(reinterpret_cast<std::byte*>(bytes_.data()), 96, nullptr);
  std::vector<Tensor> tensors_;
};

TEST_F(FileFormTest, WhatIsAnEntryStays) {
  add({4, 6}, {6, 1});
  add({4, 6}, {6, 1});  // tied
  const auto f = form();
  EXPECT_EQ(f.extents.extents.size(), 1u);
  EXPECT_THAT(f.in_memory, ElementsAre(std::nullopt, std::nullopt));
}

TEST_F(FileFormTest, OtherOrdersOfDimensionsAreWrittenInCOrder) {
  add({3, 2}, {1, 3});
  const auto f = form();
  ASSERT_EQ(f.extents.extents.size(), 1u);
  EXPECT_THAT(floats(f.extents.extents[0]), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_TRUE(f.extents.placements[0].covers);
  EXPECT_THAT(f.extents.placements[0].strides, ElementsAre(2, 1));
  EXPECT_THAT(f.in_memory[0], Optional(InMemory{0, 24, {1, 3}, 0}));
}

TEST_F(FileFormTest, ReversedOnesToo) {
  add({4}, {-2}, 6);
  EXPECT_THAT(floats(form().extents.extents[0]), ElementsAre(6, 4, 2, 0));
}

TEST_F(FileFormTest, TensorsThatShareMemoryAreEntriesOfTheirOwn) {
  add({4, 6}, {6, 1});
  add({6, 4}, {1, 6});
  add({2, 6}, {6, 1}, 6);
  add({6, 4}, {1, 6});  // equal to the second
  const auto f = form();
  ASSERT_EQ(f.extents.extents.size(), 3u);
  EXPECT_EQ(f.extents.placements[1].extent, f.extents.placements[3].extent);
  EXPECT_THAT(floats(f.extents.extents[2]),
              ElementsAre(6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17));
  EXPECT_THAT(f.in_memory[0], Optional(InMemory{0, 96, {6, 1}, 0}));
  EXPECT_THAT(f.in_memory[1], Optional(InMemory{0, 96, {1, 6}, 0}));
  EXPECT_THAT(f.in_memory[2], Optional(InMemory{0, 96, {6, 1}, 24}));
}

TEST_F(FileFormTest, RunsAreCountedByFirstAppearance) {
  add({2, 3}, {1, 2}, 12);
  add({2, 3}, {1, 2}, 0);
  const auto f = form();
  EXPECT_EQ(f.in_memory[0]->run, 0u);
  EXPECT_EQ(f.in_memory[1]->run, 1u);
}

TEST_F(FileFormTest, ExpandedTensorsLeaveTheirExtentAsItIs) {
  add({5, 3}, {0, 1});
  add({3, 2}, {1, 3});
  const auto f = form();
  EXPECT_EQ(f.extents.extents.size(), 1u);
  EXPECT_THAT(f.in_memory, ElementsAre(std::nullopt, std::nullopt));
}

TEST_F(FileFormTest, WindowsThatWouldGrowTheFileLeaveTheirExtentAsItIs) {
  for (std::uint64_t i = 0; i + 12 <= 24; ++i) add({12}, {1}, i);
  EXPECT_EQ(form().extents.extents.size(), 1u);
}

TEST_F(FileFormTest, ThousandsOfWindowsAreNotComparedWithEachOther) {
  for (std::uint64_t i = 0; i < 10'000; ++i)
    add({1 + static_cast<std::int64_t>(i % 3), 2}, {1, 2}, i % 18);
  EXPECT_EQ(form().extents.placements.size(), 10'000u);
}

TEST_F(FileFormTest, EmptyTensorsAndScalars) {
  add({0, 3}, {3, 1});
  add({}, {});
  const auto f = form();
  EXPECT_THAT(f.in_memory, ElementsAre(std::nullopt, std::nullopt));
}

}  // namespace
}  // namespace understudy::value
