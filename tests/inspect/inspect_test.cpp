#include "understudy/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "fakes/write_safetensors.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::counting;
using fakes::expect_error;
using fakes::training_state;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kShard = "shard-00000-of-00001.safetensors";

class InspectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Checkpointer ckpt({.directory = run_});
    for (const int step : {1, 2, 10}) {
      ckpt.save(step, training_state(step),
                {.metadata = Value::dict({{"loss", 0.5}, {"tags", Value::list({"a", Value()})}})})
          .wait();
    }
    ckpt.close();
  }

  fs::path step(int number) const { return run_ / ("step-" + std::to_string(number)); }

  static void flip(const fs::path& file, std::int64_t offset) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(offset);
    const auto c = static_cast<char>(f.get() ^ 1);
    f.seekp(offset);
    f.put(c);
  }

  static const TensorInfo& find(const Description& d, const std::string& path) {
    for (const auto& tensor : d.tensors) {
      if (tensor.path == path) return tensor;
    }
    ADD_FAILURE() << "no tensor " << path;
    return d.tensors.at(0);
  }

  fakes::TemporaryFolder folder_;
  const fs::path run_ = folder_.path() / "run";
  const fs::path file_ = folder_.path() / "plain.safetensors";
};

TEST_F(InspectTest, ListsStepsInOrder) {
  const auto steps = list_steps(run_);
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_EQ(steps[0].step, 1);
  EXPECT_EQ(steps[1].step, 2);
  EXPECT_EQ(steps[2].step, 10);
  const auto& newest = steps[2];
  EXPECT_TRUE(newest.is_complete);
  EXPECT_EQ(newest.path, step(10));
  EXPECT_EQ(newest.problem, "");
  EXPECT_EQ(newest.time.size(), std::string("2026-01-01T00:00:00Z").size());
  EXPECT_EQ(newest.nbytes,
            fs::file_size(step(10) / kShard) + fs::file_size(step(10) / "checkpoint.json"));
}

TEST_F(InspectTest, ListsDamagedSteps) {
  fs::resize_file(step(2) / kShard, 4096);
  fs::remove(step(10) / "checkpoint.json");
  fs::create_directory(run_ / "step-3.tmp-0123abcd");
  std::ofstream(run_ / "notes.txt") << "mine";
  const auto steps = list_steps(run_);
  ASSERT_EQ(steps.size(), 3u);
  EXPECT_TRUE(steps[0].is_complete);
  EXPECT_FALSE(steps[1].is_complete);
  EXPECT_THAT(steps[1].problem, HasSubstr("4096 bytes"));
  EXPECT_FALSE(steps[2].is_complete);
  EXPECT_EQ(steps[2].step, 10);
  EXPECT_EQ(steps[2].time, "");
  EXPECT_EQ(steps[2].nbytes, fs::file_size(step(10) / kShard));
}

TEST_F(InspectTest, ListsNothingElse) {
  fs::create_directory(folder_.path() / "empty");
  EXPECT_THAT(list_steps(folder_.path() / "empty"), IsEmpty());
  expect_error(ErrorCode::not_found, "nowhere", [&] { list_steps(folder_.path() / "nowhere"); });
  expect_error(ErrorCode::invalid, "not a folder", [&] { list_steps(step(1) / kShard); });
}

TEST_F(InspectTest, DescribesAStep) {
  const auto all = describe(step(2));
  ASSERT_EQ(all.size(), 1u);
  const auto& d = all[0];
  EXPECT_EQ(d.file, step(2) / kShard);
  EXPECT_EQ(d.file_nbytes, fs::file_size(d.file));
  EXPECT_TRUE(d.is_ours);
  EXPECT_EQ(d.step, 2);
  EXPECT_EQ(d.metadata.at("loss").as_floating(), 0.5);
  EXPECT_EQ(d.metadata.at("tags").items()[0].as_text(), "a");
  EXPECT_EQ(d.tree.at("step").as_integer(), 2);
  EXPECT_EQ(d.tree.at("optimizer").at("betas").type(), Value::Type::tuple);

  const auto& embed = find(d, "model.embed.weight");
  EXPECT_EQ(embed.dtype, "float32");
  EXPECT_THAT(embed.shape, ElementsAre(300, 70));
  EXPECT_THAT(embed.strides, ElementsAre(70, 1));
  EXPECT_EQ(embed.nbytes, 300u * 70 * 4);
  EXPECT_EQ(embed.entry, "model.embed.weight");
  EXPECT_TRUE(embed.is_shared);
  const auto& transposed = find(d, "model.transposed");
  EXPECT_EQ(transposed.entry, "model.transposed");
  EXPECT_TRUE(transposed.is_shared);
  EXPECT_THAT(transposed.strides, ElementsAre(1, 70));
  EXPECT_FALSE(find(d, "model.bias").is_shared);
  EXPECT_THAT(find(d, "empty").shape, ElementsAre(0, 4));
  EXPECT_THAT(find(d, "scalar").shape, IsEmpty());
}

TEST_F(InspectTest, TensorsLieOverNoMemory) {
  const auto d = describe(step(1)).at(0);
  const auto& tensor = d.tree.at("model").at("embed.weight").as_tensor();
  EXPECT_EQ(tensor.storage()->data(), nullptr);
  EXPECT_EQ(tensor.storage(), d.tree.at("model").at("head.weight").as_tensor().storage());
  EXPECT_NE(tensor.storage(), d.tree.at("model").at("bias").as_tensor().storage());
}

TEST_F(InspectTest, EntriesSayWhereBytesAre) {
  const auto d = describe(step(1)).at(0);
  const auto bias = training_state(1).at("model").at("bias").as_tensor();
  for (const auto& entry : d.entries) {
    if (entry.name != "model.bias") continue;
    EXPECT_EQ(entry.dtype, "BF16");
    EXPECT_THAT(entry.shape, ElementsAre(70u));
    std::ifstream in(d.file, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(entry.offset));
    std::string bytes(entry.nbytes, '\0');
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    EXPECT_EQ(bytes, fakes::dense(bias));
    return;
  }
  FAIL() << "no entry model.bias";
}

TEST_F(InspectTest, LongTextsAndListsComeFromTheirEntries) {
  const std::string text(100'000, 'x');
  Value::Items numbers;
  for (int i = 0; i < 5000; ++i) numbers.emplace_back(i);
  save_file(Value::dict({{"text", text},
                         {"numbers", Value::list(numbers)},
                         {"w", counting(DType::f32, {3'000'000}, 1)}}),
            file_, {.metadata = {{"author", "me"}}});
  const auto d = describe(file_).at(0);
  EXPECT_EQ(d.tree.at("text").as_text(), text);
  EXPECT_EQ(d.tree.at("numbers").items().size(), 5000u);
  EXPECT_EQ(d.tree.at("numbers").items()[4999].as_integer(), 4999);
  EXPECT_EQ(d.step, std::nullopt);
  for (const auto& [key, text] : d.metadata.pairs()) {
    EXPECT_FALSE(key.as_text().starts_with("understudy.")) << key.as_text();
  }
  EXPECT_EQ(d.metadata.at("author").as_text(), "me");
  EXPECT_EQ(d.tensors.size(), 1u);
}

TEST_F(InspectTest, LongLeavesBeyondALimitAreNotRead) {
  const std::string text(40 << 20, 't');
  save_file(Value::dict({{"first", text}, {"second", text}, {"third", "short"}}), file_);
  const auto d = describe(file_).at(0);
  EXPECT_EQ(d.tree.at("first").as_text(), text);
  EXPECT_EQ(d.tree.at("second").as_opaque().type_name, "text of 41943040 bytes");
  EXPECT_EQ(d.tree.at("third").as_text(), "short");
}

TEST_F(InspectTest, ResolvesRunsToTheirNewestStep) {
  EXPECT_EQ(describe(run_).at(0).step, 10);
  EXPECT_EQ(verify(run_).path, step(10));
}

TEST_F(InspectTest, ResolvesCopiedLinkedAndSlashedSteps) {
  fs::copy(step(2), folder_.path() / "keep me");
  EXPECT_EQ(describe(folder_.path() / "keep me").at(0).step, 2);
  fs::create_directory_symlink(step(2), folder_.path() / "best");
  EXPECT_EQ(describe(folder_.path() / "best").at(0).step, 2);
  EXPECT_EQ(describe(step(2) / "").at(0).step, 2);
  EXPECT_TRUE(verify(folder_.path() / "best").is_whole());
}

TEST_F(InspectTest, RefusesWhatIsNoCheckpoint) {
  expect_error(ErrorCode::not_found, "nowhere", [&] { describe(folder_.path() / "nowhere"); });
  expect_error(ErrorCode::not_found, "has no step", [&] { describe(folder_.path()); });
  const auto pipe = folder_.path() / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  expect_error(ErrorCode::invalid, "neither a folder nor", [&] { describe(pipe); });
}

TEST_F(InspectTest, ADamagedNewestStepIsNotSkipped) {
  fs::resize_file(step(10) / kShard, 4096);
  const auto message = expect_error(ErrorCode::corrupt, "newest", [&] { describe(run_); });
  EXPECT_THAT(message, HasSubstr("10"));
  EXPECT_THAT(message, HasSubstr("4096 bytes"));
  EXPECT_THAT(message, HasSubstr("2"));
  EXPECT_FALSE(verify(run_).is_whole());
  expect_error(ErrorCode::corrupt, "newest", [&] { diff(run_, step(1)); });
  expect_error(ErrorCode::corrupt, "newest",
               [&] { export_state(run_, folder_.path() / "out.safetensors"); });
}

TEST_F(InspectTest, AStepWithoutAManifestIsDamaged) {
  fs::remove(step(2) / "checkpoint.json");
  expect_error(ErrorCode::corrupt, "checkpoint.json", [&] { describe(step(2)); });
  EXPECT_FALSE(verify(step(2)).is_whole());
}

TEST_F(InspectTest, AStepOfAnotherNumberIsDamaged) {
  fs::rename(step(2), step(5));
  expect_error(ErrorCode::corrupt, "step 2", [&] { describe(step(5)); });
}

TEST_F(InspectTest, VerifiesWholeSteps) {
  const auto report = verify(step(2));
  EXPECT_TRUE(report.is_whole());
  EXPECT_TRUE(report.has_checksums);
  EXPECT_EQ(report.path, step(2));
  EXPECT_GE(report.nbytes, fs::file_size(step(2) / kShard));
}

TEST_F(InspectTest, VerifyFindsAndNamesFlippedBits) {
  const auto shard = step(2) / kShard;
  flip(shard, static_cast<std::int64_t>(fs::file_size(shard)) - 1);
  const auto report = verify(step(2));
  ASSERT_EQ(report.damage.size(), 1u);
  EXPECT_EQ(report.damage[0].file, shard);
  EXPECT_GE(report.damage[0].offset, 4096u);
  EXPECT_THAT(report.damage[0].what, HasSubstr(kShard));
  EXPECT_EQ(describe(step(2)).size(), 1u) << "headers are whole, and more is not read";
  expect_error(ErrorCode::corrupt, kShard, [&] { diff(step(2), step(2)); });
}

TEST_F(InspectTest, VerifyTellsProgress) {
  struct Seen {
    std::uint64_t calls = 0, done = 0, total = 0;
  } seen;
  save_file(Value::dict({{"w", counting(DType::u8, {20'000'000}, 1)}}), file_);
  verify(
      file_,
      [](void* context, std::uint64_t done, std::uint64_t total) {
        auto& s = *static_cast<Seen*>(context);
        ++s.calls;
        EXPECT_GE(done, s.done);
        s.done = done;
        s.total = total;
      },
      &seen);
  EXPECT_GE(seen.calls, 5u);
  EXPECT_EQ(seen.done, seen.total);
  EXPECT_EQ(seen.total, fs::file_size(file_));
}

TEST_F(InspectTest, DescribesFilesOfOthers) {
  fakes::write_safetensors(file_,
                           R"({"__metadata__":{"format":"pt"},)"
                           R"("a.b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                           R"("fp6":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[8,11]},)"
                           R"("fp4":{"dtype":"F4","shape":[2,4],"data_offsets":[11,15]},)"
                           R"("none":{"dtype":"I64","shape":[0,3],"data_offsets":[15,15]}})",
                           15);
  const auto d = describe(file_).at(0);
  EXPECT_FALSE(d.is_ours);
  EXPECT_EQ(d.metadata.at("format").as_text(), "pt");
  EXPECT_EQ(d.entries.size(), 4u);
  EXPECT_EQ(d.tree.at("a.b").as_tensor().shape(), (Dims{2, 1}));
  EXPECT_EQ(d.tree.at("fp6").as_opaque().type_name, "F6_E2M3");
  EXPECT_EQ(d.tree.at("fp4").as_tensor().shape(), (Dims{2, 2}));
  EXPECT_EQ(d.tensors.size(), 3u);
  const auto report = verify(file_);
  EXPECT_TRUE(report.is_whole());
  EXPECT_FALSE(report.has_checksums);
}

TEST_F(InspectTest, RefusesDamagedFiles) {
  save_file(training_state(1), file_);
  flip(file_, 20);
  expect_error(ErrorCode::corrupt, file_.string(), [&] { describe(file_); });
  EXPECT_FALSE(verify(file_).is_whole());
  std::ofstream(file_) << "hello";
  expect_error(ErrorCode::corrupt, file_.string(), [&] { describe(file_); });
  EXPECT_FALSE(verify(file_).is_whole());
}

TEST_F(InspectTest, DoctorFillsEveryRow) {
  const auto probes = doctor(folder_.path());
  std::vector<std::string> names;
  for (const auto& probe : probes) {
    names.push_back(probe.name);
    EXPECT_NE(probe.detail, "") << probe.name;
    EXPECT_NE(probe.cost, "") << probe.name;
  }
  EXPECT_THAT(names, ElementsAre("huge pages", "userfaultfd", "io_uring", "direct I/O", "writer",
                                 "shared memory", "CUDA", "cores", "memory"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "it leaves no file";
  expect_error(ErrorCode::not_found, "nowhere", [&] { doctor(folder_.path() / "nowhere"); });
}

}  // namespace
}  // namespace understudy
