#include "store/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "fakes/expect_error.h"
#include "store/run_folder.h"

namespace understudy::store {
namespace {

using fakes::expect_error;
using testing::ElementsAre;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Keep::Best best(Keep::Order order, int count) {
  return {"loss", order, count};
}

TEST(KeepRule, ANumberIsTheNewest) {
  const std::vector<RatedStep> steps{{1, {}}, {2, {}}, {3, {}}};
  EXPECT_THAT(steps_to_keep(2, steps), ElementsAre(2, 3));
  EXPECT_THAT(steps_to_keep(9, steps), ElementsAre(1, 2, 3));
  EXPECT_THAT(steps_to_keep(Keep(), steps), ElementsAre(3)) << "the newest always stays";
  EXPECT_TRUE(steps_to_keep(2, {}).empty());
}

TEST(KeepRule, EachOfTheThreeKeeps) {
  const std::vector<RatedStep> steps{{0, 9.0}, {5, 1.0}, {10, 2.0}, {15, {}}, {20, 0.5}, {21, 3.0}};
  EXPECT_THAT(steps_to_keep(Keep(1, 10), steps), ElementsAre(0, 10, 20, 21));
  EXPECT_THAT(steps_to_keep(Keep(1, 0, best(Keep::Order::min, 2)), steps), ElementsAre(5, 20, 21));
  EXPECT_THAT(steps_to_keep(Keep(1, 0, best(Keep::Order::max, 2)), steps), ElementsAre(0, 21));
}

TEST(KeepRule, OfEqualOnesTheNewerIsBetter) {
  const std::vector<RatedStep> steps{{1, 0.5}, {2, 0.5}, {3, 0.5}, {4, 0.9}};
  EXPECT_THAT(steps_to_keep(Keep(1, 0, best(Keep::Order::min, 2)), steps), ElementsAre(2, 3, 4));
}

TEST(KeepRule, IsWhatASimpleModelSays) {
  std::mt19937 random(20240501);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (int round = 0; round < 2000; ++round) {
    std::vector<RatedStep> steps;
    for (int step = below(4); step < 40; step += 1 + below(7)) {
      // Few values, so that many are equal.
      steps.push_back({step, below(4) == 0 ? std::nullopt : std::optional(1.0 * below(5))});
    }
    Keep keep(1 + below(4), below(2) * (1 + below(9)));
    const bool has_best = below(2) == 1;
    if (has_best)
      keep.best = best(below(2) == 1 ? Keep::Order::min : Keep::Order::max, 1 + below(3));
    std::vector<std::int64_t> wanted;
    for (const RatedStep& step : steps) {
      int newer = 0, better = 0;
      for (const RatedStep& other : steps) {
        newer += other.step > step.step;
        if (!has_best || !other.metric || !step.metric) continue;
        const double gain = keep.best->order == Keep::Order::min ? *step.metric - *other.metric
                                                                 : *other.metric - *step.metric;
        better += gain > 0 || (gain == 0 && other.step > step.step);
      }
      const bool is_multiple = keep.every > 0 && step.step % keep.every == 0;
      const bool is_best = has_best && step.metric && better < keep.best->count;
      if (newer < keep.last || is_multiple || is_best) wanted.push_back(step.step);
    }
    ASSERT_EQ(steps_to_keep(keep, steps), wanted) << "round " << round;
  }
}

TEST(KeepRule, TakesOnlyNumbersForMetrics) {
  EXPECT_EQ(metric_of(R"({"loss":0.5})", "loss"), 0.5);
  EXPECT_EQ(metric_of(R"({"a":1,"loss":-3})", "loss"), -3.0);
  EXPECT_EQ(metric_of(R"({"loss":{"understudy.float":"-inf"}})", "loss"), -kInfinity);
  for (const char* text :
       {"null", "[]", "{}", R"({"loss":{"understudy.float":"nan"}})", R"({"loss":true})",
        R"({"loss":null})", R"({"loss":"0.5"})", R"({"loss":[1]})", R"({"val":{"loss":1}})",
        R"({"loss":18446744073709551615})"}) {
    EXPECT_EQ(metric_of(text, "loss"), std::nullopt) << text;
  }
}

TEST(KeepRule, ThatCannotBeIsRefused) {
  for (const Keep& keep : {Keep(0), Keep(-1), Keep(1, -1), Keep(1, 0, Keep::Best{}),
                           Keep(1, 0, best(Keep::Order::min, 0))}) {
    expect_error(ErrorCode::invalid, "keep", [&] { require_valid(keep); });
  }
  require_valid(Keep(1, 1, best(Keep::Order::min, 1)));
}

TEST(KeepRule, IsAppliedToTheManifests) {
  RunFolder run;
  const auto lock = lock_folder(run.path());
  Writer writer({.threads = 1});
  const CommitOptions options{.overwrite = false, .keep = Keep(1, 4, best(Keep::Order::min, 1))};
  const std::vector<std::string> losses = {
      R"({"loss":3})",   R"({"loss":{"understudy.float":"nan"}})",
      R"({"loss":1.5})", "null",
      R"({"loss":2})",   R"({"loss":2})"};
  for (std::size_t i = 0; i < losses.size(); ++i) {
    fakes::Shard shard = fakes::small_shard(1);
    commit_step(*lock, static_cast<std::int64_t>(i) + 1, shard, losses[i], writer, options);
  }
  EXPECT_THAT(run.names(), ElementsAre("step-3", "step-4", "step-6"));
}

}  // namespace
}  // namespace understudy::store
