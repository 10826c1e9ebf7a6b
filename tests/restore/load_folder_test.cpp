#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "understudy/inspect.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::training_state;

std::vector<std::string> names_of(const Value& state) {
  std::vector<std::string> names;
  for (const auto& [key, value] : state.pairs()) names.push_back(key.as_text());
  return names;
}

class LoadFolder : public ::testing::Test {
 protected:
  /// A model of three files, and its state as one flat dict.
  Value export_model() {
    Value::Pairs pairs;
    for (const std::string name : {"a.weight", "a.bias", "ab", "b.weight"}) {
      pairs.emplace_back(name, counting(DType::f32, {100}, static_cast<int>(name.size())));
    }
    const auto state = Value::dict(std::move(pairs));
    save_file(state, folder_ / "one");
    export_state(folder_ / "one", model_, {.hugging_face = true, .max_shard_nbytes = 500});
    return state;
  }

  fakes::TemporaryFolder folder_;
  const fs::path model_ = folder_ / "model";
};

TEST_F(LoadFolder, AStepsFolder) {
  Checkpointer ckpt({.directory = folder_ / "run"});
  const auto step = ckpt.save(7, training_state(7)).wait();
  EXPECT_EQ(fingerprint(load_file(step)), fingerprint(training_state(7)));
  EXPECT_EQ(fingerprint(load_file(step.string() + "/")), fingerprint(training_state(7)));
  EXPECT_EQ(names_of(load_file(step, {.names = {"step"}})), std::vector<std::string>{"step"});
  expect_error(ErrorCode::invalid, "give a step's folder (" + step.string() + ")",
               [&] { load_file(folder_ / "run"); });
  fs::resize_file(step / "checkpoint.json", 0);
  expect_error(ErrorCode::corrupt, "checkpoint.json", [&] { load_file(step); });
}

TEST_F(LoadFolder, AModelOfSeveralFiles) {
  const auto state = export_model();
  ASSERT_TRUE(fs::exists(model_ / "model.safetensors.index.json"));
  for (const bool mmap : {false, true}) {
    const auto got = load_file(model_, {.mmap = mmap});
    ASSERT_EQ(got.pairs().size(), 4u);
    for (const auto& [key, value] : state.pairs()) {
      const auto found = std::ranges::find_if(
          got.pairs(), [&](const auto& pair) { return pair.first.as_text() == key.as_text(); });
      ASSERT_NE(found, got.pairs().end());
      EXPECT_EQ(fakes::dense(found->second.as_tensor()), fakes::dense(value.as_tensor()));
    }
  }
  EXPECT_EQ(names_of(load_file(model_, {.names = {"a"}})),
            (std::vector<std::string>{"a.bias", "a.weight"}));
  EXPECT_EQ(names_of(load_file(model_, {.names = {"ab", "b"}})),
            (std::vector<std::string>{"ab", "b.weight"}));
  expect_error(ErrorCode::not_found, "nothing named 'c'",
               [&] { load_file(model_, {.names = {"c"}}); });
}

TEST_F(LoadFolder, ReadsOnlyTheFilesThatAreAskedFor) {
  export_model();
  fs::remove(model_ / "model-00001-of-00004.safetensors");
  int found = 0;
  for (const std::string name : {"a.weight", "a.bias", "ab", "b.weight"}) {
    try {
      load_file(model_, {.names = {name}});
      ++found;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::not_found) << error.what();
    }
  }
  EXPECT_EQ(found, 3);
  expect_error(ErrorCode::not_found, "model-00001-of-00004", [&] { load_file(model_); });
}

TEST_F(LoadFolder, IndexesThatLieAreErrors) {
  export_model();
  const auto index = model_ / "model.safetensors.index.json";
  const auto expect_bad = [&](const std::string& text, const std::string& part) {
    fakes::write_text(index, text);
    expect_error(ErrorCode::corrupt, part, [&] { load_file(model_); });
  };
  expect_bad("", "no weight_map");
  expect_bad("[]", "no weight_map");
  expect_bad(R"({"weight_map": []})", "no weight_map");
  expect_bad(R"({"weight_map": {"x": 1}})", "tensor 'x'");
  expect_bad(R"({"weight_map": {"x": "../one.safetensors"}})", "tensor 'x'");
  expect_bad(R"({"weight_map": {"x": "model-00001-of-00004.safetensors"}})", "no tensor 'x'");
}

TEST_F(LoadFolder, OneFileIsTheModelAndOthersAreNamed) {
  save_file(training_state(1), folder_ / "whole");
  fs::create_directory(model_);
  expect_error(ErrorCode::invalid, "without a step or a safetensors model",
               [&] { load_file(model_); });
  fakes::write_text(model_ / "last.ckpt", "");
  expect_error(ErrorCode::invalid, "last.ckpt", [&] { load_file(model_); });
  fs::copy(folder_ / "whole", model_ / "model.safetensors");
  EXPECT_EQ(fingerprint(load_file(model_)), fingerprint(training_state(1)));
  fs::copy(folder_ / "whole", model_ / "other.safetensors");
  expect_error(ErrorCode::invalid, "give one of them", [&] { load_file(model_); });
}

}  // namespace
}  // namespace understudy
