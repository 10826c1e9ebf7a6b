#include "restore/rename.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"

namespace understudy::restore {
namespace {

using fakes::expect_error;
using fakes::fingerprint;

class Fake : public Loadable {
 public:
  std::string check(const Value&) override { return {}; }
  void load(const Value&) override {}
};

Value object() {
  return Opaque{"Fake", nullptr, nullptr, std::make_shared<Fake>()};
}

TEST(RenameTest, NothingToDoGivesTheSameTree) {
  const auto saved = fakes::training_state(1);
  EXPECT_EQ(fingerprint(renamed(saved, saved, {})), fingerprint(saved));
  const Rename away{.prefixes = {{"nowhere.", "x."}}};
  EXPECT_EQ(fingerprint(renamed(saved, saved, away)), fingerprint(saved));
}

TEST(RenameTest, APrefixOfAKeyOrOfThePath) {
  const auto saved = Value::dict({{"m", Value::dict({{"_orig_mod.w", 1}, {"b", 2}})}, {"n", 3}});
  const auto target = Value::dict({{"m", object()}, {"n", 0}});
  const auto got = renamed(saved, target, {.prefixes = {{"_orig_mod.", ""}}});
  EXPECT_EQ(got.at("m").at("w").as_integer(), 1);
  EXPECT_EQ(got.at("m").at("b").as_integer(), 2);
  EXPECT_EQ(got.at("m").pairs().size(), 2u);
  const auto back = renamed(got, target, {.prefixes = {{"m.", "m.module."}}});
  EXPECT_EQ(back.at("m").at("module.w").as_integer(), 1);
  EXPECT_EQ(back.at("n").as_integer(), 3);
}

TEST(RenameTest, TheFirstPrefixThatFitsIsTakenOnce) {
  const auto saved = Value::dict({{"a.a.x", 1}, {"b.x", 2}});
  const auto got = renamed(saved, Value::dict({}), {.prefixes = {{"a.", "b."}, {"b.", "c."}}});
  EXPECT_EQ(got.at("b.a.x").as_integer(), 1);
  EXPECT_EQ(got.at("c.x").as_integer(), 2);
}

TEST(RenameTest, WhatMovesWholeStaysAsItIs) {
  const auto part = Value::dict(
      {{"state", Value::dict({{0, Value::tuple({1, 2})}})}, {"groups", Value::list({1, 2})}});
  const auto saved = Value::dict({{"optimizer", part}, {"n", 1}});
  const auto target = Value::dict({{"opt", Value::dict({{"a.b", object()}})}, {"n", 1}});
  const auto got = renamed(saved, target, {.prefixes = {{"optimizer.", "opt.a.b."}}});
  EXPECT_EQ(fingerprint(got.at("opt").at("a.b")), fingerprint(part));
  EXPECT_EQ(got.pairs().size(), 2u);
}

TEST(RenameTest, APartThatMovesIntoAnObjectGetsNamesWithDots) {
  const auto saved = Value::dict({{"body", Value::dict({{"w", 1}, {"b", 2}})}});
  const auto target = Value::dict({{"net", object()}});
  const auto got = renamed(saved, target, {.prefixes = {{"body.", "net.body."}}});
  ASSERT_EQ(got.pairs().size(), 1u);
  EXPECT_EQ(got.at("net").at("body.w").as_integer(), 1);
  EXPECT_EQ(got.at("net").at("body.b").as_integer(), 2);
}

TEST(RenameTest, TheWholeTreeBelowAName) {
  const auto saved = Value::dict({{"w", 1}, {"b", 2}});
  const Rename below{.prefixes = {{"", "model."}}};
  EXPECT_EQ(
      renamed(saved, Value::dict({{"model", object()}}), below).at("model").at("b").as_integer(),
      2);
  // Where the target's own keys have the dot, so have the new ones.
  const auto flat = renamed(saved, Value::dict({{"model.w", 0}, {"model.b", 0}}), below);
  EXPECT_EQ(flat.at("model.w").as_integer(), 1);
}

TEST(RenameTest, KeysOfTheTargetKeepTheirTypes) {
  const auto saved = Value::dict({{"x", Value::dict({{"5", 1}})}});
  const auto target = Value::dict({{"y", Value::dict({{7, 0}})}});
  const auto got =
      renamed(saved, target, {.function = [](const std::string&) { return std::string("y.7"); }});
  EXPECT_EQ(got.at("y").pairs()[0].first.as_integer(), 7);
  EXPECT_EQ(got.pairs().size(), 1u) << "what is empty now is gone";
}

TEST(RenameTest, TwoValuesForOnePathAreAnError) {
  const auto saved = Value::dict({{"a", 1}, {"b", 2}, {"l", Value::list({1, 2})}});
  expect_error(ErrorCode::invalid, "two saved values the path 'b'", [&] {
    renamed(saved, saved, {.prefixes = {{"a", "b"}}});
  });
  expect_error(ErrorCode::invalid, "two saved values the path 'z'", [&] {
    renamed(saved, saved, {.prefixes = {{"a", "z"}, {"b", "z"}}});
  });
  expect_error(ErrorCode::invalid, "items of 'l' apart", [&] {
    renamed(saved, saved, {.prefixes = {{"l.0", "z"}}});
  });
}

TEST(RenameTest, HintsName) {
  EXPECT_EQ(helpful_rename({{"m.w", 2}}, {{"m._orig_mod.w", 2}}), "{'_orig_mod.': ''}");
  EXPECT_EQ(helpful_rename({{"m.w", 2}}, {{"m.module.w", 2}}), "{'module.': ''}");
  EXPECT_EQ(helpful_rename({{"m._orig_mod.w", 2}}, {{"m.w", 2}}), "{'m.': 'm._orig_mod.'}");
  EXPECT_EQ(helpful_rename({{"module.w", 0}}, {{"w", 0}}), "{'': 'module.'}");
  EXPECT_EQ(helpful_rename({{"m.w", 2}}, {{"m.v", 2}}), "");
  EXPECT_EQ(helpful_rename({{"m.w", 2}}, {{"m.xmodule.w", 2}}), "");
}

}  // namespace
}  // namespace understudy::restore
