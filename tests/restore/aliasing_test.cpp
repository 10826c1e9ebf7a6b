#include "restore/aliasing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/states.h"

namespace understudy::restore {
namespace {

using fakes::counting;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AliasCheckTest : public ::testing::Test {
 protected:
  std::vector<std::string> conflicts(std::vector<Claim> claims) {
    AliasCheck check(std::move(claims));
    looked_at_ = check.claims().size();
    return check.conflicts(copiers_);
  }

  WorkerPool copiers_{"copy", 2};
  std::size_t looked_at_ = 0;
  Tensor memory_ = Tensor::zeros(DType::u8, {64});
  Tensor saved_ = counting(DType::u8, {64}, 1);

  static Tensor view(const Tensor& of, Dims shape, Dims strides, std::uint64_t offset = 0) {
    return {of.storage(), DType::u8, std::move(shape), std::move(strides), offset};
  }
};

TEST_F(AliasCheckTest, LooksAtNothingInAnOrdinaryState) {
  const auto a = counting(DType::f32, {30, 20}, 1), b = counting(DType::f32, {30, 20}, 2);
  const auto x = Tensor::zeros(DType::f32, {30, 20}), y = Tensor::zeros(DType::f32, {30, 20});
  EXPECT_THAT(conflicts({{"x", a, x},
                         {"y", b, y},
                         {"empty", Tensor::zeros(DType::u8, {0}), Tensor::zeros(DType::u8, {0})}}),
              IsEmpty());
  EXPECT_EQ(looked_at_, 0u);
}

TEST_F(AliasCheckTest, LooksAtNothingThatSharesAsItDid) {
  EXPECT_THAT(conflicts({{"all", saved_, memory_},
                         {"part", view(saved_, {8}, {1}, 8), view(memory_, {8}, {1}, 8)},
                         {"wide", view(saved_, {8, 8}, {0, 1}), view(memory_, {8, 8}, {0, 1})}}),
              IsEmpty());
  EXPECT_EQ(looked_at_, 0u);
}

TEST_F(AliasCheckTest, FindsWhatIsOverwritten) {
  const auto other = counting(DType::u8, {8}, 9);
  EXPECT_THAT(conflicts({{"all", saved_, memory_},
                         {"same", view(saved_, {4}, {1}, 4), view(memory_, {4}, {1}, 4)},
                         {"part", other, view(memory_, {8}, {1}, 32)}}),
              ElementsAre("'all' and 'part' share memory here and have different values in the "
                          "checkpoint"));
  EXPECT_EQ(looked_at_, 3u);
}

TEST_F(AliasCheckTest, FindsElementsThatShareAPlace) {
  EXPECT_THAT(conflicts({{"wide", counting(DType::u8, {4, 4}, 1), view(memory_, {4, 4}, {0, 1})}}),
              ElementsAre(HasSubstr("'wide' has elements that share memory")));
  EXPECT_THAT(
      conflicts({{"slides", counting(DType::u8, {5, 4}, 1), view(memory_, {5, 4}, {1, 1})}}),
      ElementsAre(HasSubstr("'slides' has elements that share memory")));
}

TEST_F(AliasCheckTest, EqualValuesAreFineHoweverTheyWereSaved) {
  const auto copy = counting(DType::u8, {64}, 1);
  const auto zeros = Tensor::zeros(DType::u8, {4, 4});
  EXPECT_THAT(conflicts({{"a", saved_, memory_}, {"b", copy, memory_}}), IsEmpty());
  EXPECT_THAT(conflicts({{"wide", zeros, view(memory_, {4, 4}, {0, 1})}}), IsEmpty());
  const auto backwards = Tensor(copy.storage(), DType::u8, {64}, {-1}, 63);
  EXPECT_THAT(
      conflicts({{"a", saved_, memory_},
                 {"back", backwards, Tensor(memory_.storage(), DType::u8, {64}, {-1}, 63)}}),
      IsEmpty());
}

}  // namespace
}  // namespace understudy::restore
