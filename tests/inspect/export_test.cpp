#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "fakes/child.h"
#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "os/calls.h"
#include "understudy/inspect.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::counting;
using fakes::dense;
using fakes::expect_error;
using fakes::training_state;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ExportTest : public ::testing::Test {
 protected:
  void save(const Value& state) { save_file(state, state_); }

  std::vector<std::string> names_in_folder() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_.path())) {
      names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }

  static std::vector<std::string> entry_names(const fs::path& file) {
    const auto d = describe(file).at(0);
    std::vector<std::string> names;
    for (const auto& entry : d.entries) names.push_back(entry.name);
    return names;
  }

  fakes::TemporaryFolder folder_;
  const fs::path state_ = folder_.path() / "state.safetensors";
  const fs::path out_ = folder_.path() / "out";
};

TEST_F(ExportTest, WritesDenseEntries) {
  save(training_state(4));
  const auto report = export_state(state_, out_);
  EXPECT_THAT(report.files, ElementsAre(out_));
  EXPECT_EQ(report.tensors, 6u);
  EXPECT_EQ(report.tied, 1u);
  EXPECT_EQ(report.left_out, 5u);  // lr, two betas, step, name
  const auto d = describe(out_).at(0);
  EXPECT_FALSE(d.is_ours);
  EXPECT_EQ(d.metadata.pairs().size(), 2u);
  EXPECT_EQ(d.metadata.at("format").as_text(), "pt");
  EXPECT_EQ(d.metadata.at("model.head.weight").as_text(), "model.embed.weight");

  const auto got = load_file(out_);
  const auto state = training_state(4);
  const auto& model = state.at("model");
  EXPECT_EQ(got.pairs().size(), 6u);
  EXPECT_EQ(dense(got.at("model.embed.weight").as_tensor()),
            dense(model.at("embed.weight").as_tensor()));
  EXPECT_EQ(dense(got.at("model.transposed").as_tensor()),
            dense(model.at("transposed").as_tensor()));
  EXPECT_TRUE(got.at("model.transposed").as_tensor().is_contiguous());
  EXPECT_EQ(got.at("model.transposed").as_tensor().shape(), (Dims{70, 300}));
  EXPECT_EQ(dense(got.at("scalar").as_tensor()), dense(state.at("scalar").as_tensor()));
  EXPECT_EQ(got.at("empty").as_tensor().shape(), (Dims{0, 4}));
  EXPECT_EQ(report.nbytes, 2u * 300 * 70 * 4 + 70 * 2 + 25 * 8 + 8);
}

TEST_F(ExportTest, OrdersEntriesAsTheReferenceWriterDoes) {
  save(Value::dict({{"b8", counting(DType::u8, {3}, 1)},
                    {"z", counting(DType::f32, {3}, 1)},
                    {"a", counting(DType::f32, {3}, 1)},
                    {"wide", counting(DType::f64, {1}, 1)}}));
  export_state(state_, out_);
  EXPECT_THAT(entry_names(out_), ElementsAre("wide", "a", "z", "b8"));
}

// Entries that begin and end in the middle of blocks, dense and strided.
TEST_F(ExportTest, GathersOverBlocks) {
  const auto base = counting(DType::f32, {1500, 1100}, 7);
  const auto state =
      Value::dict({{"dense", counting(DType::f64, {700'001}, 1)},
                   {"columns", Tensor(base.storage(), DType::f32, {1100, 1500}, {1, 1100})},
                   {"bytes", counting(DType::u8, {9'000'001}, 3)},
                   {"odd", counting(DType::u8, {5}, 3)}});
  save(state);
  export_state(state_, out_);
  const auto got = load_file(out_);
  for (const auto& [key, value] : state.pairs()) {
    EXPECT_EQ(dense(got.at(key.as_text()).as_tensor()), dense(value.as_tensor())) << key.as_text();
  }
}

TEST_F(ExportTest, PrefixTakesAPartAndIsTakenOff) {
  save(training_state(4));
  const auto report = export_state(state_, out_, {.prefix = "model"});
  EXPECT_EQ(report.left_out, 0u);
  EXPECT_THAT(entry_names(out_), ElementsAre("embed.weight", "transposed", "bias"));
  EXPECT_EQ(describe(out_).at(0).metadata.at("head.weight").as_text(), "embed.weight");
  export_state(state_, folder_.path() / "dot", {.prefix = "model."});
  EXPECT_EQ(entry_names(out_), entry_names(folder_.path() / "dot"));
  expect_error(ErrorCode::not_found, "below 'mod'",
               [&] { export_state(state_, folder_.path() / "x", {.prefix = "mod"}); });
}

TEST_F(ExportTest, ReplacesNothing) {
  save(training_state(4));
  std::ofstream(out_) << "mine";
  expect_error(ErrorCode::invalid, "exists", [&] { export_state(state_, out_); });
  expect_error(ErrorCode::invalid, "exists",
               [&] { export_state(state_, out_, {.hugging_face = true}); });
  EXPECT_EQ(fs::file_size(out_), 4u);
}

TEST_F(ExportTest, ReplacesNothingThatAppearsMeanwhile) {
  save(training_state(4));
  static fs::path appears;
  appears = out_;
  os::Calls table = os::system_calls();
  table.fsync = [](int fd) {
    if (!fs::exists(appears)) fakes::write_text(appears, "somebody's");
    return ::fsync(fd);
  };
  for (const bool is_folder : {false, true}) {
    const os::ReplaceCalls replaced(table);
    expect_error(ErrorCode::invalid, "exists",
                 [&] { export_state(state_, out_, {.hugging_face = is_folder}); });
    EXPECT_EQ(fakes::read_text(out_), "somebody's");
    fs::remove(out_);
    EXPECT_THAT(names_in_folder(), ElementsAre("state.safetensors"));
  }
}

TEST_F(ExportTest, ALimitOnTheSizeOfFilesIsAnError) {
  save(training_state(4));
  for (const bool is_folder : {false, true}) {
    EXPECT_EQ(fakes::in_child([&] {
                signal(SIGXFSZ, SIG_DFL);  // which ends a process
                const rlimit limit{4096, 4096};
                if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
                expect_error(ErrorCode::no_space, "File too large",
                             [&] { export_state(state_, out_, {.hugging_face = is_folder}); });
                return HasFailure() ? 2 : 0;
              }),
              0);
    EXPECT_THAT(names_in_folder(), ElementsAre("state.safetensors"));
  }
}

TEST_F(ExportTest, AFailureLeavesNothingBehind) {
  save(Value::dict({{"c", counting(DType::c128, {2}, 1)}}));
  const auto before = names_in_folder();
  expect_error(ErrorCode::unsupported, "complex128", [&] { export_state(state_, out_); });
  expect_error(ErrorCode::unsupported, "'c'",
               [&] { export_state(state_, out_, {.hugging_face = true}); });
  EXPECT_EQ(names_in_folder(), before);
  save(training_state(4));
  expect_error(ErrorCode::not_found, "nowhere",
               [&] { export_state(state_, folder_.path() / "nowhere" / "out"); });
}

TEST_F(ExportTest, DamageIsNotExported) {
  save(training_state(4));
  std::fstream f(state_, std::ios::in | std::ios::out | std::ios::binary);
  f.seekp(-1, std::ios::end);
  f.put('\x7f');
  f.close();
  expect_error(ErrorCode::corrupt, "state.safetensors", [&] { export_state(state_, out_); });
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ExportTest, NamesThatCollideAreRefused) {
  const auto t = counting(DType::u8, {1}, 1);
  save(Value::dict({{"a.b", t}, {"a", Value::dict({{"b", counting(DType::u8, {1}, 2)}})}}));
  expect_error(ErrorCode::invalid, "'a.b'", [&] { export_state(state_, out_); });
  save(Value::dict({{"__metadata__", t}}));
  expect_error(ErrorCode::invalid, "'__metadata__'", [&] { export_state(state_, out_); });
  save(Value(t));
  expect_error(ErrorCode::invalid, "''", [&] { export_state(state_, out_); });
}

// A dropped name becomes a key of the metadata; one that means something there
// is kept as an entry.
TEST_F(ExportTest, TiedTensorsWithReservedNamesAreWritten) {
  const auto t = counting(DType::f32, {4}, 1);
  save(Value::dict({{"w", t}, {"format", t}, {"understudy.tree", t}, {"other", t}}));
  const auto report = export_state(state_, out_);
  EXPECT_EQ(report.tied, 1u);
  EXPECT_EQ(describe(out_).at(0).metadata.at("format").as_text(), "pt");
  EXPECT_THAT(entry_names(out_), ElementsAre("format", "understudy.tree", "w"));
  EXPECT_TRUE(verify(out_).is_whole());
}

TEST_F(ExportTest, ViewsOfFarMoreThanIsStoredAreRefused) {
  const auto one = counting(DType::f32, {4}, 0);
  const Tensor expanded(one.storage(), DType::f32, {std::int64_t{1} << 40}, {0});
  save(Value::dict({{"x", expanded}}));
  expect_error(ErrorCode::unsupported, "'x' have more than 1073741824 bytes",
               [&] { export_state(state_, out_); });
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(ExportTest, StatesWithoutTensors) {
  save(Value::dict({{"step", 1}}));
  expect_error(ErrorCode::not_found, "no tensors", [&] { export_state(state_, out_); });
}

TEST_F(ExportTest, HuggingFaceFolderOfOneFile) {
  save(training_state(4));
  const auto report = export_state(state_, out_ / "", {.hugging_face = true, .prefix = "model"});
  EXPECT_THAT(report.files, ElementsAre(out_ / "model.safetensors"));
  EXPECT_EQ(std::distance(fs::directory_iterator(out_), {}), 1);
  EXPECT_EQ(load_file(out_ / "model.safetensors").pairs().size(), 3u);
  EXPECT_THAT(names_in_folder(), ElementsAre("out", "state.safetensors"));
}

TEST_F(ExportTest, HuggingFaceFolderOfShards) {
  const auto tied = counting(DType::f32, {100}, 5);
  const auto state = Value::dict({{"a", counting(DType::f32, {100}, 1)},
                                  {"b", counting(DType::f32, {50}, 2)},
                                  {"large", counting(DType::f32, {1000}, 3)},
                                  {"c", tied},
                                  {"d", tied}});
  save(state);
  const auto report = export_state(state_, out_, {.hugging_face = true, .max_shard_nbytes = 600});
  EXPECT_THAT(report.files, ElementsAre(out_ / "model-00001-of-00003.safetensors",
                                        out_ / "model-00002-of-00003.safetensors",
                                        out_ / "model-00003-of-00003.safetensors"));
  std::ifstream in(out_ / "model.safetensors.index.json");
  const auto index = nlohmann::json::parse(in);
  EXPECT_EQ(index["metadata"]["total_size"], 1250 * 4);
  EXPECT_EQ(index["weight_map"], (nlohmann::json{{"a", "model-00001-of-00003.safetensors"},
                                                 {"b", "model-00001-of-00003.safetensors"},
                                                 {"large", "model-00002-of-00003.safetensors"},
                                                 {"c", "model-00003-of-00003.safetensors"}}));
  for (const auto& [name, file] : index["weight_map"].items()) {
    EXPECT_EQ(dense(load_file(out_ / file.get<std::string>()).at(name).as_tensor()),
              dense(state.at(name).as_tensor()));
  }
  EXPECT_EQ(describe(report.files[2]).at(0).metadata.at("d").as_text(), "c");
  EXPECT_THAT(describe(report.files[0]).at(0).metadata.find("d"), nullptr);
}

TEST_F(ExportTest, FilesOfOthersToo) {
  save(training_state(4));
  export_state(state_, out_);
  const auto again = folder_.path() / "again";
  export_state(out_, again);
  EXPECT_EQ(fakes::fingerprint(load_file(again)), fakes::fingerprint(load_file(out_)));
}

}  // namespace
}  // namespace understudy
