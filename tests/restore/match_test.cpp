#include "restore/match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/states.h"

namespace understudy::restore {
namespace {

using fakes::counting;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class FakeObject : public Loadable {
 public:
  explicit FakeObject(std::string objection = {}) : objection_(std::move(objection)) {}
  std::string check(const Value&) override { return objection_; }
  void load(const Value&) override {}

 private:
  std::string objection_;
};

Value object(std::string objection = {}) {
  return Opaque{"Fake", nullptr, nullptr, std::make_shared<FakeObject>(std::move(objection))};
}

TEST(MatchTest, EqualTreesFit) {
  const auto found = match(fakes::training_state(1), fakes::training_state(2));
  EXPECT_THAT(found.misfits, IsEmpty());
  EXPECT_EQ(found.copies.size(), 7u);
  EXPECT_EQ(found.merged.at("step").as_integer(), 2);
}

TEST(MatchTest, EveryMisfitIsReported) {
  const Value t = counting(DType::f32, {3}, 0);
  const auto target = Value::dict({{"a", t},
                                   {"b", t},
                                   {"c", 1},
                                   {"d", Value::tuple({t, 2})},
                                   {"e", Value::dict({{"only", 1}, {"t", t}})},
                                   {"f", 1}});
  const auto saved = Value::dict({{"a", counting(DType::f32, {4}, 0)},
                                  {"b", counting(DType::f64, {3}, 0)},
                                  {"c", "text"},
                                  {"d", Value::tuple({t})},
                                  {"e", Value::dict({{"other", 1}, {"t", t}})},
                                  {"f", counting(DType::f32, {1}, 0)}});
  const auto found = match(target, saved);
  EXPECT_THAT(
      found.misfits,
      ElementsAre(
          "'a' is float32 [3] here and float32 [4] in the checkpoint",
          "'b' is float32 [3] here and float64 [3] in the checkpoint (convert=True converts it)",
          "'c' is an integer here and a text in the checkpoint",
          "'d' has 2 items here and 1 in the checkpoint", "'e.only' is missing in the checkpoint",
          "'e.other' is in the checkpoint and not expected here",
          "'f' is an integer here and a tensor float32 [1] in the checkpoint"));
}

TEST(MatchTest, KeysOfDifferentTypesAreDifferent) {
  EXPECT_EQ(match(Value::dict({{1, 1}}), Value::dict({{"1", 1}})).misfits.size(), 2u);
}

TEST(MatchTest, PlainListsAndNoneTakeWhatWasSaved) {
  const auto target = Value::dict({{"history", Value::list({})}, {"best", Value()}});
  const auto saved = Value::dict({{"history", Value::list({1, 2.5})}, {"best", 0.25}});
  const auto found = match(target, saved);
  EXPECT_THAT(found.misfits, IsEmpty());
  EXPECT_EQ(found.merged.at("history").items().size(), 2u);
  EXPECT_EQ(found.merged.at("best").as_floating(), 0.25);
}

TEST(MatchTest, PlainDataIsReplacedWhateverItsKeysAndLength) {
  const Value t = counting(DType::f32, {2}, 0);
  const auto target =
      Value::dict({{"d", Value::dict({{"a", 1}, {"b", 2}}).with_kind(Value::Kind::ordered_dict)},
                   {"t", Value::tuple({1, 2})},
                   {"n", 1}});
  const auto saved =
      Value::dict({{"d", Value::dict({{"b", 3}, {"c", t}})}, {"t", Value::tuple({t})}, {"n", 0.5}});
  const auto found = match(target, saved);
  EXPECT_THAT(found.misfits, IsEmpty());
  EXPECT_THAT(found.copies, IsEmpty());
  const auto& d = found.merged.at("d");
  EXPECT_EQ(d.kind(), Value::Kind::ordered_dict) << "the caller's";
  ASSERT_EQ(d.pairs().size(), 2u);
  EXPECT_EQ(d.at("b").as_integer(), 3);
  EXPECT_EQ(d.at("c").as_tensor().storage(), t.as_tensor().storage());
  EXPECT_EQ(found.merged.at("t").items().size(), 1u);
  EXPECT_EQ(found.merged.at("n").as_floating(), 0.5);
}

TEST(MatchTest, TheRootHasTheSavedKeysAndLength) {
  const Value t = counting(DType::f32, {2}, 0);
  EXPECT_EQ(match(Value::list({t}), Value::list({t, t})).misfits.size(), 1u);
  EXPECT_EQ(match(Value::dict({{"a", 1}}), Value::dict({{"a", 1}, {"b", 1}})).misfits.size(), 1u);
  EXPECT_THAT(match(Value(1), Value(2)).misfits, IsEmpty());
}

TEST(MatchTest, ListsOfTensorsMayGrow) {
  const Value t = counting(DType::f32, {2}, 0);
  const auto lists = [&](std::size_t n, const Value& item) {
    return Value::dict({{"l", Value::list(Value::Items(n, item))}});
  };
  const auto grown = match(lists(1, t), lists(3, t));
  EXPECT_THAT(grown.misfits, IsEmpty());
  EXPECT_EQ(grown.copies.size(), 1u);
  EXPECT_EQ(grown.merged.at("l").items().size(), 3u);
  EXPECT_EQ(match(lists(3, t), lists(1, t)).misfits.size(), 1u);
  const auto parameter = t.with_kind(Value::Kind::parameter, true);
  EXPECT_EQ(match(lists(1, parameter), lists(3, parameter)).misfits.size(), 1u);
  EXPECT_EQ(match(lists(1, object()), lists(3, t)).misfits.size(), 1u);
}

TEST(MatchTest, ObjectsAreAsked) {
  const auto saved = Value::dict({{"o", Value::dict({{"anything", 1}})}});
  EXPECT_THAT(match(Value::dict({{"o", object()}}), saved).misfits, IsEmpty());
  EXPECT_THAT(match(Value::dict({{"o", object("it is full")}}), saved).misfits,
              ElementsAre(HasSubstr("'o' cannot load its part: it is full")));
}

Value typed(Value::Items extra, Value::Pairs fields) {
  return Value::dict(std::move(fields))
      .with_kind(Value::Kind::typed, Value::tuple(std::move(extra)));
}

TEST(MatchTest, ATypedValueIsReplacedByOneOfItsTypeOnly) {
  const auto date = [](const char* text) { return typed({"datetime.date"}, {{"text", text}}); };
  const auto target = Value::dict({{"a", date("1")}, {"b", date("1")}, {"c", Value()}, {"d", 1}});
  const auto saved = Value::dict({{"a", date("2")},
                                  {"b", typed({"datetime.time"}, {{"text", "2"}})},
                                  {"c", date("2")},
                                  {"d", date("2")}});
  const auto found = match(target, saved);
  EXPECT_THAT(found.misfits,
              ElementsAre("'b' is a datetime.date here and a datetime.time in the checkpoint",
                          "'d' is an integer here and a datetime.date in the checkpoint"));
  EXPECT_EQ(found.merged.at("a").at("text").as_text(), "2");
  EXPECT_EQ(found.merged.at("c").at("text").as_text(), "2");
}

TEST(MatchTest, ADataclassKeepsItsFieldsWhateverItsModuleIsCalled) {
  const Value t = counting(DType::f32, {3}, 0);
  const auto made = [&](const char* module, int lr, const char* name) {
    return typed({"dataclass", module, "Config"}, {{"lr", lr}, {name, t}});
  };
  EXPECT_THAT(match(made("train", 1, "w"), made("__main__", 2, "w")).misfits, IsEmpty());
  EXPECT_EQ(match(made("train", 1, "w"), made("__main__", 2, "w")).copies.size(), 1u);
  EXPECT_THAT(match(made("train", 1, "w"), made("train", 2, "v")).misfits,
              ElementsAre("'w' is missing in the checkpoint",
                          "'v' is in the checkpoint and not expected here"));
}

TEST(MatchTest, ATensorOfASubclassNeedsTheSameContext) {
  const auto made = [](int block) {
    return typed({"tensor_subclass", "m", "Scaled"},
                 {{"context", block}, {"data", counting(DType::i8, {3}, 0)}});
  };
  EXPECT_EQ(match(made(1), made(1)).copies.size(), 1u);
  EXPECT_THAT(match(made(1), made(2)).misfits,
              ElementsAre(HasSubstr("of another context than in the checkpoint")));
}

}  // namespace
}  // namespace understudy::restore
