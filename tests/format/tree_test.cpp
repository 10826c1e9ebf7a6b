#include "format/tree.h"

#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "format/helpers.h"
#include "format/tree_rules.h"
#include "understudy/again.h"
#include "value/walk.h"

namespace understudy::format {
namespace {

using testing::is_same;
using testing::Kind;
using testing::read_whole_file;
using testing::write_whole_file;

void expect_round_trip(const Value& state) {
  const auto file = write_whole_file(state);
  const auto back = read_whole_file(file.bytes);
  EXPECT_TRUE(is_same(state, back)) << file.tree;
  EXPECT_EQ(write_whole_file(back).tree, file.tree);
}

std::string tree_of(const Value& state) {
  return encode_tree(state, {});
}

// Without entries: only what stands in the tree itself.
Value decode(std::string_view tree) {
  return decode_tree(tree, {}, {}, "f");
}

TEST(Tree, EveryTypeComesBack) {
  expect_round_trip(testing::every_type());
}
TEST(Tree, EveryKindComesBack) {
  expect_round_trip(testing::every_kind());
}
TEST(Tree, EveryDtypeComesBack) {
  expect_round_trip(testing::every_dtype());
}

TEST(Tree, ARootMayBeAnything) {
  for (const auto& root :
       {Value(), Value(true), Value(7), Value(0.5), Value("x"), Value::list({}), Value::tuple({1}),
        Value(testing::counted(DType::f32, {2})), Value::bytes("x"), testing::pickled("m.T", "p"),
        Value(std::string(2000, 'x')), Value("/").with_kind(Kind::path, "PosixPath")}) {
    expect_round_trip(root);
  }
}

// The scalars of a state, in walk order, as `Again` counts them.
std::vector<Value> scalars_of(const Value& state) {
  std::vector<Value> scalars;
  value::walk(state, [&](const value::Path&, const Value& node) {
    if (is_scalar(node)) scalars.push_back(node);
    return !understudy::is_blob(node);
  });
  return scalars;
}

TEST(Tree, ScalarsAreExchangedAsIfTheyHadBeenThere) {
  const auto states = {testing::every_type(), testing::every_kind()};
  for (const auto& state : states) {
    const auto file = write_whole_file(state);
    std::vector<Span> places;
    ASSERT_EQ(encode_tree(state, file.layout.leaves, &places), file.tree);
    const auto scalars = scalars_of(state);
    ASSERT_EQ(places.size(), scalars.size());
    ASSERT_GT(places.size(), 5U);
    for (std::size_t i = 0; i < places.size(); ++i) {
      EXPECT_EQ(file.tree.substr(places[i].begin, places[i].nbytes), encode_inline(scalars[i]));
    }
    // Each by the next, and back, so that all lengths change.
    std::vector<std::pair<std::size_t, Value>> others, same;
    for (std::size_t i = 0; i < scalars.size(); i += 2) {
      others.emplace_back(i, scalars[(i + 1) % scalars.size()]);
      same.emplace_back(i, scalars[i]);
    }
    auto tree = file.tree;
    auto moved = places;
    exchange_scalars(tree, moved, others);
    EXPECT_NE(tree, file.tree);
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto& there = i % 2 == 0 ? scalars[(i + 1) % scalars.size()] : scalars[i];
      EXPECT_EQ(tree.substr(moved[i].begin, moved[i].nbytes), encode_inline(there));
    }
    exchange_scalars(tree, moved, same);
    EXPECT_EQ(tree, file.tree);
  }
}

TEST(Tree, AScalarThatIsNotThereChangesNothing) {
  std::string tree = "1";
  std::vector<Span> places{{0, 1}};
  const std::vector<std::pair<std::size_t, Value>> others{{1, Value(2)}};
  fakes::expect_error(ErrorCode::invalid, "no scalar 1",
                      [&] { exchange_scalars(tree, places, others); });
  EXPECT_EQ(tree, "1");
}

TEST(Tree, IsWrittenAsDocumented) {
  EXPECT_EQ(tree_of(Value()), "null");
  EXPECT_EQ(tree_of(true), "true");
  EXPECT_EQ(tree_of(-5), "-5");
  EXPECT_EQ(tree_of("a\"b"), R"("a\"b")");
  EXPECT_EQ(tree_of(1.0), R"(["f","3ff0000000000000"])");
  EXPECT_EQ(tree_of(std::complex(1.0, -2.0)), R"(["c","3ff0000000000000","c000000000000000"])");
  EXPECT_EQ(tree_of(Value::bytes(std::string("\0\xff", 2))), R"(["b","00ff"])");
  EXPECT_EQ(tree_of(Value::list({1, Value::tuple({})})), R"(["l",1,["t"]])");
  EXPECT_EQ(tree_of(Value::dict({{"a", 1}, {2, "b"}})), R"(["d","a",1,2,"b"])");
  EXPECT_EQ(tree_of(testing::pickled("m.T", "ab")), R"(["p","m.T","6162"])");
  EXPECT_EQ(tree_of(Value::list({Opaque{"m.A", nullptr, nullptr, nullptr},
                                 Opaque{"m.B", nullptr, nullptr, nullptr}})),
            R"(["l",["o",0,"m.A"],["o",1,"m.B"]])");
  EXPECT_EQ(tree_of(Value::list({}).with_kind(Kind::deque, 3)), R"(["k","deque",3,["l"]])");
  EXPECT_EQ(tree_of(Value("/").with_kind(Kind::path, "Path")), R"(["k","path","Path","/"])");
  EXPECT_EQ(tree_of(testing::typed("datetime.date", {{"text", "2026-01-02"}})),
            R"(["k","typed",["t","datetime.date"],["d","text","2026-01-02"]])");
}

TEST(Tree, TensorsAreEntriesOrViews) {
  const auto w = testing::counted(DType::f32, {2, 3});
  const Tensor transposed(w.storage(), DType::f32, {3, 2}, {1, 3});
  EXPECT_EQ(write_whole_file(Value::list({w, transposed})).tree,
            R"(["l",[0],[0,"float32",[3,2],[1,3],0]])");
  EXPECT_EQ(write_whole_file(Value::list({std::string(1025, 'x')})).tree,
            R"(["l",["B",0,"text"]])");
  EXPECT_EQ(write_whole_file(testing::pickled("m.T", std::string(1025, 'x'))).tree,
            R"(["B",0,"pickle","m.T"])");
}

TEST(Tree, ScalarsThatChangeKeepItsLength) {
  const auto length = [](double v) { return tree_of(v).size(); };
  EXPECT_EQ(length(0.0), length(-1.2345678901234567e-300));
  EXPECT_EQ(length(0.0), length(std::bit_cast<double>(0x7ff4000000000001ull)));
}

TEST(Tree, LongLeavesAreBlobs) {
  Blob::Type type;
  const auto list_of = [](std::size_t n, const Value& v) {
    return Value::list(Value::Items(n, v));
  };
  EXPECT_FALSE(is_blob(std::string(1024, 'x'), type));
  EXPECT_TRUE(is_blob(std::string(1025, 'x'), type) && type == Blob::Type::text);
  EXPECT_TRUE(is_blob(Value::bytes(std::string(1025, 'x')), type) && type == Blob::Type::bytes);
  EXPECT_TRUE(is_blob(testing::pickled("m.T", std::string(1025, 'x')), type) &&
              type == Blob::Type::pickle);
  EXPECT_FALSE(is_blob(list_of(127, 1), type));
  EXPECT_TRUE(is_blob(list_of(128, 1), type) && type == Blob::Type::integers);
  EXPECT_TRUE(is_blob(list_of(128, 1.0), type) && type == Blob::Type::floats);
  EXPECT_FALSE(is_blob(list_of(128, true), type));
  EXPECT_FALSE(is_blob(list_of(128, 1).with_kind(Kind::deque), type));
  EXPECT_FALSE(is_blob(Value::tuple(Value::Items(128, 1)), type));
  auto mixed = Value::Items(128, 1);
  mixed.back() = Value(1.0);
  EXPECT_FALSE(is_blob(Value::list(mixed), type));
  EXPECT_EQ(blob_bytes(Value::list(Value::Items(128, -2))).substr(0, 8),
            "\xfe\xff\xff\xff\xff\xff\xff\xff");
}

Value nested(int depth) {
  Value v = Value::list({});
  for (int i = 1; i < depth; ++i) v = i % 2 ? Value::list({v}) : Value::dict({{"k", v}});
  return v;
}

TEST(Tree, NestsAsDeepAsWalksDo) {
  expect_round_trip(nested(kMaxDepth));
  fakes::expect_error(ErrorCode::invalid, "nested deeper", [] { tree_of(nested(kMaxDepth + 1)); });
}

TEST(Tree, TheEncoderRefusesWhatCouldNotBeRead) {
  const auto refuse = [](const Value& state, const std::string& part) {
    fakes::expect_error(ErrorCode::invalid, part, [&] { tree_of(state); });
  };
  const auto in_a = [](Value v) { return Value::dict({{"a", Value::list({1, std::move(v)})}}); };
  refuse(in_a("\xFF"), "'a.1': the text \"\\xff\" is not UTF-8");
  refuse(in_a(Value::dict({{"\xFF", 1}})), "not UTF-8");
  refuse(in_a(Value::dict({{"x", 1}, {"x", 2}})), "'a.1': the dict has the key \"x\" twice");
  refuse(in_a(Value::dict({{1, 1}, {1, 2}})), "the key 1 twice");
  refuse(in_a(Value::dict({{Value::list({}), 1}})), "type list cannot be the key");
  refuse(in_a(Value::dict({{Value::dict({}), 1}})), "type dict cannot be the key");
  refuse(in_a(Value::dict({{Value::tuple({Value::list({})}), 1}})), "type tuple cannot be the key");
  refuse(in_a(Value::dict({{testing::counted(DType::u8, {1}), 1}})),
         "type tensor cannot be the key");
  refuse(in_a(Value(1).with_kind(Kind::deque)), "the kind deque lies over type integer, not list");
  refuse(in_a(Value(1).with_kind(Kind::plain, 1)), "a plain node has an extra");
  refuse(in_a(Value::list({1, 2}).with_kind(Kind::deque, 1)), "cannot be");
  refuse(in_a(Value::list({1}).with_kind(Kind::deque, "x")), "extra value of the wrong form");
  refuse(in_a(Value::list({Value::list({})}).with_kind(Kind::set)), "cannot be");
  refuse(in_a(Value::tuple({1}).with_kind(Kind::named_tuple, Value::tuple({"T"}))), "cannot be");
  refuse(in_a(Value("1x").with_kind(Kind::big_integer)), "cannot be");
  refuse(in_a(Value::tuple({1, "x"}).with_kind(Kind::torch_size)), "cannot be");
  refuse(in_a(Value::tuple({1, 2}).with_kind(Kind::slice)), "cannot be");
  refuse(in_a(testing::counted(DType::u8, {1})), "fewer tensors");
  refuse(in_a(std::string(2000, 'x')), "other long leaves");
  refuse(in_a(testing::typed("os.system", {})), "type \"os.system\", which is unknown");
  refuse(in_a(testing::typed("enum", {})), "type \"enum\" does not name a class");
  refuse(in_a(Value::dict({}).with_kind(Kind::typed, "datetime.date")),
         "extra value of the wrong form");
  refuse(in_a(testing::typed("datetime.date", {{1, 2}})), "cannot be");
  refuse(in_a(Value::dict({{testing::typed("array.array", {}), 1}})), "key");
  refuse(Value::dict({}).with_kind(Kind::ordered_dict,
                                   Value::dict({{"t", testing::counted(DType::u8, {1})}})),
         "cannot stand in a key or a kind's extra");
}

TEST(Tree, TheSizeOfTheTextIsBounded) {
  const std::string huge(kMaxWrittenHeaderNbytes + 1, ' ');
  fakes::expect_error(ErrorCode::corrupt, "more than", [&] { decode(huge); });
}

// Which paths were asked about, and what came of it.
struct Selecting {
  std::vector<std::string> asked;
  std::vector<std::uint32_t> made;
  Value state;

  Selecting(const Value& whole, const std::function<int(const std::string&)>& answer) {
    const auto file = write_whole_file(whole);
    testing::Reading reading(file.layout.entries,
                             std::span(file.bytes).subspan(file.layout.header_nbytes));
    auto source = reading.source;
    source.tensor = [&](const View& view) {
      made.push_back(view.entry);
      return reading.source.tensor(view);
    };
    source.blob = [&](std::uint32_t entry) {
      made.push_back(entry);
      return reading.source.blob(entry);
    };
    source.select = [&](const std::string& path) {
      asked.push_back(path);
      return answer(path);
    };
    state = decode_tree(file.tree, file.layout.entries, source, "f");
  }
};

TEST(TreeSelect, TakesNamedPartsOnly) {
  const auto t = [](unsigned first) { return Value(testing::counted(DType::f32, {2}, first)); };
  const auto whole = Value::dict({
      {"model", Value::dict({{"a.b", t(1)}, {"c", t(2)}}).with_kind(Kind::ordered_dict)},
      {"list", Value::list({t(3), Value::dict({{"x", 1}})})},
      {"numbers", Value::list(Value::Items(200, 5))},
      {"leaf", t(4)},
      {"scalar", 7},
      {"text", std::string(3000, 'x')},
      {"path", Value("/").with_kind(Kind::path, "PosixPath")},
      {3, Value::dict({{"deep", Value::dict({{"er", t(5)}})}})},
  });
  const std::vector<std::string> paths = {"model",   "model.a.b", "model.c", "list",
                                          "numbers", "leaf",      "scalar",  "text",
                                          "path",    "3",         "3.deep",  "3.deep.er"};
  // Only asked: dicts stay, lists are taken whole, other leaves go.
  const Selecting looked(whole, [](const std::string&) { return 1; });
  EXPECT_EQ(looked.asked, paths);
  EXPECT_TRUE(
      is_same(looked.state, Value::dict({{"model", Value::dict({}).with_kind(Kind::ordered_dict)},
                                         {"list", Value::list({t(3), Value::dict({{"x", 1}})})},
                                         {"numbers", Value::list(Value::Items(200, 5))},
                                         {3, Value::dict({{"deep", Value::dict({})}})}})));
  EXPECT_EQ(looked.made.size(), 2u);
  // One leaf.
  const Selecting one(whole, [](const std::string& path) {
    return path == "3.deep.er" ? 2 : path == "3" || path == "3.deep" ? 1 : 0;
  });
  EXPECT_TRUE(
      is_same(one.state, Value::dict({{3, Value::dict({{"deep", Value::dict({{"er", t(5)}})}})}})));
  EXPECT_EQ(one.made.size(), 1u);
  // All of it, and nothing.
  const Selecting all(whole, [](const std::string&) { return 2; });
  EXPECT_TRUE(is_same(all.state, whole));
  EXPECT_EQ(all.asked.size(), 8u);
  const Selecting none(whole, [](const std::string&) { return 0; });
  EXPECT_TRUE(is_same(none.state, Value::dict({})));
  EXPECT_TRUE(none.made.empty());
}

TEST(TreeSelect, ARootThatIsNoDictIsTakenWhole) {
  for (const auto& root :
       {Value(1), Value(testing::counted(DType::f32, {2})), Value::list({Value::dict({{"x", 1}})}),
        Value(std::string(2000, 'x')), Value("/").with_kind(Kind::path, "PosixPath")}) {
    const Selecting selecting(root, [](const std::string&) { return 0; });
    EXPECT_TRUE(is_same(selecting.state, root));
    EXPECT_TRUE(selecting.asked.empty());
  }
}

TEST(TreeSelect, WhatIsDroppedIsStillChecked) {
  TreeSource source;
  source.select = [](const std::string&) { return 0; };
  for (const auto* tree : {R"(["d","a",[0]])", R"(["d","a",["l",["l",["x"]]]])",
                           R"(["d","a",1,"a",2])", R"(["d","a",["k","deque",null,["t"]]])"}) {
    fakes::expect_error(ErrorCode::corrupt, "damaged", [&] { decode_tree(tree, {}, source, "f"); });
  }
}

TEST(Tree, FormsThatCameAfterTheFirstVersionAreTold) {
  const auto has = [](const Value& state, bool in_file_form = false) {
    return has_new_forms(testing::write_whole_file(state, {}, in_file_form).tree);
  };
  const auto w = testing::counted(DType::f32, {2, 3});
  const auto views =
      Value::dict({{"w", w}, {"t", Tensor(w.storage(), DType::f32, {3, 2}, {1, 3})}});
  EXPECT_FALSE(has(views));
  EXPECT_TRUE(has(views, true));
  EXPECT_FALSE(has(testing::every_type()));
  EXPECT_TRUE(has(Value::bytes("1").with_kind(Kind::long_integer)));
  EXPECT_TRUE(has(Value::list({1, testing::typed("datetime.date", {{"text", "x"}})})));
  // Text that looks like one.
  EXPECT_FALSE(has(Value::list({R"(["k","typed",["t","datetime.date"]])", "],1,2,3,[", "\\",
                                Value::list({}), 1, 2, 3, Value::list({})})));
}

TEST(Tree, NoSelectionGoesIntoATypedValue) {
  const auto tree = R"(["d","a",["k","typed",["t","datetime.date"],["d","text","2026"]]])";
  TreeSource source;
  source.select = [](const std::string& path) { return path == "a" ? 1 : 0; };
  const auto state = decode_tree(tree, {}, source, "f");
  EXPECT_EQ(state.at("a").at("text").as_text(), "2026");
}

}  // namespace
}  // namespace understudy::format
