// Looking into steps that several ranks have saved: whole tensors, however they were cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/save_by_ranks.h"
#include "fakes/states.h"
#include "understudy/files.h"
#include "understudy/inspect.h"

namespace understudy {
namespace {

using fakes::counting;
using fakes::part_of;
using fakes::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// More than a block of checksums, in rows and in columns.
const Dims kLarge{700, 2100};

/// The state, of which rank `rank` of `count` has its parts; whole for one rank.
Value state_of(int seed, int rank, int count) {
  const auto rows = counting(DType::f32, kLarge, seed);
  const auto columns = counting(DType::f64, {37, 5, 11}, seed + 1);
  const auto plain = counting(DType::bf16, {64}, seed + 2);
  const auto cut = [&](const Tensor& t, std::size_t dim) {
    return count == 1 ? Value(t) : part_of(t, dim, rank, count);
  };
  return Value::dict(
      {{"model", Value::dict({{"rows", cut(rows, 0)}, {"columns", cut(columns, 1)}})},
       {"plain", plain},
       {"tied", plain},
       {"empty", Tensor::zeros(DType::i64, {0, 4})},
       {"step", seed},
       {"text", std::string(2000, 't')}});
}

void save(const TemporaryFolder& folder, std::int64_t step, int seed, int count) {
  std::vector<Value> states;
  for (int rank = 0; rank < count; ++rank) states.push_back(state_of(seed, rank, count));
  if (count > 1) {
    fakes::save_by_ranks(folder, step, states);
  } else {
    Checkpointer({.directory = folder.path()}).save(step, states[0]).wait();
  }
}

TEST(RanksInspect, StepsOfAnyNumberOfRanksAreCompared) {
  TemporaryFolder folder;
  save(folder, 1, 7, 1);
  save(folder, 2, 7, 2);
  save(folder, 3, 7, 3);
  save(folder, 4, 8, 3);
  EXPECT_THAT(diff(folder / "step-1", folder / "step-2"), IsEmpty());
  EXPECT_THAT(diff(folder / "step-2", folder / "step-3"), IsEmpty());
  std::vector<std::string> paths;
  for (const auto& difference : diff(folder / "step-2", folder / "step-4")) {
    paths.push_back(difference.path);
  }
  EXPECT_THAT(paths, ElementsAre("model.rows", "model.columns", "plain", "tied", "step"));
}

TEST(RanksInspect, OneElementThatDiffersIsFoundAtItsPlace) {
  TemporaryFolder folder;
  const auto whole = counting(DType::f32, kLarge, 3);
  const auto parts = [&](std::size_t dim) {
    return std::vector{Value::dict({{"w", part_of(whole, dim, 0, 2)}}),
                       Value::dict({{"w", part_of(whole, dim, 1, 2)}})};
  };
  fakes::save_by_ranks(folder, 1, parts(0));
  auto* const element = reinterpret_cast<std::uint32_t*>(whole.data()) + 555 * kLarge[1] + 1777;
  *element ^= 1;
  fakes::save_by_ranks(folder, 2, parts(1));
  const auto differences = diff(folder / "step-1", folder / "step-2");
  ASSERT_THAT(differences, SizeIs(1));
  EXPECT_THAT(differences[0].what, HasSubstr("1 of 1470000 elements differ"));
  EXPECT_THAT(differences[0].what, HasSubstr("the first at [555, 1777]"));
}

TEST(RanksInspect, ShowsWholeTensorsAndHowTheyAreCut) {
  TemporaryFolder folder;
  save(folder, 1, 7, 2);
  const auto d = describe(folder / "step-1").at(0);
  EXPECT_EQ(d.shards, 2u);
  EXPECT_EQ(d.file, folder / "step-1");
  EXPECT_EQ(d.step, 1);
  EXPECT_TRUE(d.is_ours);
  const auto tensor = [&](const std::string& path) {
    return *std::ranges::find(d.tensors, path, &TensorInfo::path);
  };
  const auto rows = tensor("model.rows");
  EXPECT_EQ(rows.shape, kLarge);
  EXPECT_EQ(rows.nbytes, 700u * 2100 * 4);
  EXPECT_EQ(rows.entry, "");
  ASSERT_THAT(rows.chunks, SizeIs(2));
  EXPECT_EQ(rows.chunks[1].file, "shard-00001-of-00002.safetensors");
  EXPECT_EQ(rows.chunks[1].entry, "model.rows");
  EXPECT_THAT(rows.chunks[1].offsets, ElementsAre(350, 0));
  EXPECT_THAT(rows.chunks[1].sizes, ElementsAre(350, 2100));
  EXPECT_THAT(tensor("plain").chunks, IsEmpty());
  EXPECT_TRUE(tensor("plain").is_shared);
  EXPECT_EQ(tensor("plain").file, tensor("tied").file);
  EXPECT_EQ(tensor("empty").shape, (Dims{0, 4}));
  EXPECT_EQ(d.tree.at("step").as_integer(), 7);
  EXPECT_EQ(d.tree.at("text").as_text(), std::string(2000, 't'));
  std::uint64_t nbytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder / "step-1")) {
    if (file.path().extension() == ".safetensors") nbytes += file.file_size();
  }
  EXPECT_EQ(d.file_nbytes, nbytes);
  EXPECT_THAT(d.entries, SizeIs(testing::Gt(6u)));
}

TEST(RanksInspect, ExportsWholeTensors) {
  TemporaryFolder folder;
  save(folder, 1, 7, 3);
  const auto report = export_state(folder / "step-1", folder / "out.safetensors");
  EXPECT_EQ(report.tensors, 4u);
  EXPECT_EQ(report.tied, 1u);
  const auto out = load_file(folder / "out.safetensors");
  const auto whole = state_of(7, 0, 1);
  for (const auto* name : {"rows", "columns"}) {
    EXPECT_EQ(fakes::dense(out.at(std::string("model.") + name).as_tensor()),
              fakes::dense(whole.at("model").at(name).as_tensor()));
  }
  EXPECT_EQ(fakes::dense(out.at("plain").as_tensor()), fakes::dense(whole.at("plain").as_tensor()));

  export_state(folder / "step-1", folder / "model",
               {.hugging_face = true, .max_shard_nbytes = 1000, .prefix = "model"});
  const auto loaded = load_file(folder / "model");
  EXPECT_EQ(fakes::dense(loaded.at("rows").as_tensor()),
            fakes::dense(whole.at("model").at("rows").as_tensor()));
}

TEST(RanksInspect, DamageInAnyShardIsFound) {
  TemporaryFolder folder;
  save(folder, 1, 7, 2);
  save(folder, 2, 7, 1);
  const auto shard = folder.path() / "step-1" / "shard-00001-of-00002.safetensors";
  {
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-100, std::ios::end);
    const char byte = static_cast<char>(file.peek() ^ 1);
    file.seekp(-100, std::ios::end);
    file.put(byte);
  }
  const auto step = folder / "step-1";
  fakes::expect_error(ErrorCode::corrupt, "shard-00001-of-00002.safetensors is damaged",
                      [&] { diff(step, folder / "step-2"); });
  fakes::expect_error(ErrorCode::corrupt, "shard-00001-of-00002.safetensors is damaged",
                      [&] { export_state(step, folder / "out.safetensors"); });
  EXPECT_FALSE(std::filesystem::exists(folder / "out.safetensors"));
}

}  // namespace
}  // namespace understudy
