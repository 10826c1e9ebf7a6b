#include "value/walk.h"

#include <gtest/gtest.h>

#include <set>

#include "understudy/error.h"

namespace understudy::value {
namespace {

TEST(WalkTest, VisitsInOrderWithPaths) {
  const auto state = Value::dict(
      {{"a", Value::list({1, "x"})}, {7, true}, {Value::tuple({1, Value("k")}), Value()}});
  std::vector<std::string> paths;
  walk(state, [&](const Path& path, const Value&) {
    paths.push_back(path.str());
    return true;
  });
  EXPECT_EQ(paths, (std::vector<std::string>{"", "a", "a.0", "a.1", "7", "(1,k)"}));
}

TEST(WalkTest, RefusesWhatIsNestedTooDeep) {
  Value deep = 1;
  for (int i = 0; i < kMaxDepth; ++i) deep = Value::list({deep});
  EXPECT_NO_THROW(walk(deep, [](const Path&, const Value&) { return true; }));
  deep = Value::list({deep});
  try {
    walk(deep, [](const Path&, const Value&) { return true; });
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid);
    EXPECT_NE(std::string(e.what()).find("0.0.0"), std::string::npos);
  }
}

TEST(WalkTest, KeyIdsTellKeysApart) {
  const std::vector<Value> keys{Value(1),
                                Value("1"),
                                Value(1.0),
                                Value(true),
                                Value(),
                                Value::bytes("1"),
                                Value::tuple({1}),
                                Value::tuple({Value::tuple({1})}),
                                Value("a").with_kind(Value::Kind::torch_dtype),
                                Value("a")};
  std::set<std::string> ids;
  for (const auto& key : keys) {
    std::string id;
    append_key_id(id, key);
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), keys.size());
}

TEST(ValueTest, WrongTypeIsAnError) {
  EXPECT_THROW(Value(1).as_text(), Error);
  EXPECT_THROW(Value("x").items(), Error);
  EXPECT_THROW(Value(1).pairs(), Error);
  EXPECT_THROW(Value::dict({{"a", 1}}).at("b"), Error);
  EXPECT_EQ(Value::dict({{"a", 1}}).at("a").as_integer(), 1);
}

}  // namespace
}  // namespace understudy::value
