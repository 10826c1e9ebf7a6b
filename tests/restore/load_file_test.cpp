#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/states.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::training_state;
using ::testing::HasSubstr;

class LoadFileTest : public ::testing::TestWithParam<bool> {
 protected:
  LoadFileOptions options(std::vector<std::string> names = {}) const {
    return {.names = std::move(names), .mmap = GetParam()};
  }
  fakes::TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_.path() / "state.safetensors";
};

TEST_P(LoadFileTest, GivesBackWhatWasSaved) {
  save_file(training_state(5), file_);
  const auto got = load_file(file_, options());
  EXPECT_EQ(fingerprint(got), fingerprint(training_state(5)));
  const auto& model = got.at("model");
  model.at("embed.weight").as_tensor().data()[0] = std::byte{42};
  EXPECT_EQ(std::to_integer<int>(model.at("head.weight").as_tensor().data()[0]), 42);
  // The file is not the user's memory.
  EXPECT_EQ(fingerprint(load_file(file_, options())), fingerprint(training_state(5)));
}

TEST_P(LoadFileTest, LargerThanABlock) {
  const auto state = Value::dict({{"a", counting(DType::f32, {3000, 1000}, 1)},
                                  {"b", counting(DType::u8, {5000001}, 2)},
                                  {"c", counting(DType::u8, {3}, 3)}});
  save_file(state, file_);
  EXPECT_EQ(fingerprint(load_file(file_, options())), fingerprint(state));
  EXPECT_EQ(fingerprint(load_file(file_, options({"c"}))),
            fingerprint(Value::dict({{"c", state.at("c")}})));
}

TEST_P(LoadFileTest, NamesTakeExactlyOrBelow) {
  save_file(training_state(5), file_);
  EXPECT_EQ(load_file(file_, options({"model"})).pairs().size(), 1u);
  EXPECT_EQ(load_file(file_, options({"model"})).at("model").pairs().size(), 4u);
  const auto some = load_file(file_, options({"model.bias", "optimizer.lr", "step"}));
  EXPECT_EQ(some.at("model").pairs().size(), 1u);
  EXPECT_EQ(some.at("optimizer").at("lr").as_floating(), 0.5);
  EXPECT_EQ(some.at("step").as_integer(), 5);
  const auto e =
      expect_error(ErrorCode::not_found, "", [&] { load_file(file_, options({"mod"})); });
  EXPECT_THAT(e, HasSubstr("'mod'"));
}

TEST_P(LoadFileTest, DamageIsNamedAndUnverifiedReadingIsPossible) {
  save_file(training_state(5), file_);
  {
    std::fstream f(file_, std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(-10, std::ios::end);
    f.put('\x55');
  }
  const auto e = expect_error(ErrorCode::corrupt, "", [&] { load_file(file_, options()); });
  EXPECT_THAT(e, HasSubstr("state.safetensors"));
  auto careless = options();
  careless.verify = false;
  EXPECT_NO_THROW(load_file(file_, careless));
}

TEST_P(LoadFileTest, PicklesNeedPermission) {
  Opaque o;
  o.type_name = "my.Thing";
  o.pickle = std::make_shared<const std::string>("pickled");
  save_file(Value::dict({{"a", Value::list({Value(o)})}}), file_);
  const auto e = expect_error(ErrorCode::unsupported, "", [&] { load_file(file_, options()); });
  EXPECT_THAT(e, HasSubstr("my.Thing at 'a.0'"));
  auto allowed = options();
  allowed.allow_pickle = true;
  EXPECT_EQ(*load_file(file_, allowed).at("a").items()[0].as_opaque().pickle, "pickled");
  o.pickle = nullptr;
  const auto refused = expect_error(ErrorCode::unsupported, "", [&] {
    save_file(Value::dict({{"a", Value(o)}}), file_);
  });
  EXPECT_THAT(refused, HasSubstr("'a'"));
}

TEST_P(LoadFileTest, MissingFileIsNotFound) {
  expect_error(ErrorCode::not_found, "", [&] { load_file(file_, options()); });
}

INSTANTIATE_TEST_SUITE_P(ReadAndMapped, LoadFileTest, ::testing::Bool());

}  // namespace
}  // namespace understudy
