// Steps in parts: what several writers report becomes one step, whose parts are read by anybody.
#include "understudy/parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "fakes/expect_error.h"
#include "fakes/save_by_ranks.h"
#include "fakes/states.h"
#include "fakes/temporary_folder.h"
#include "ranks/ranges.h"
#include "store/commit.h"
#include "store/verify.h"
#include "understudy/checkpointer.h"
#include "understudy/chunk.h"

namespace understudy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

constexpr const char* kMark = "0123abcd";

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& item : std::filesystem::directory_iterator(folder)) {
    const auto name = item.path().filename().native();
    if (name != ".understudy.lock") names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

// A part of a tensor as a leaf.
Value piece(const Tensor& tensor, Dims offsets, Dims sizes) {
  const ranks::Chunk part{offsets, std::move(sizes)};
  return chunk(ranks::view_of(tensor, ranks::whole(tensor.shape()), part),
               {tensor.shape(), std::move(offsets)});
}

std::string write(const std::filesystem::path& path, int rank, int count, const Value& leaves,
                  int file = 0, bool is_only = true, const LeafPaths& paths = {}) {
  PartWriter writer({.threads = 1});
  return writer.write({path, kMark, rank, count, file, is_only}, leaves, paths);
}

class Parts : public testing::Test {
 protected:
  std::filesystem::path step() const { return folder_.path() / "step-3"; }

  const fakes::TemporaryFolder folder_{fakes::memory_folder()};
  const Tensor w_ = fakes::counting(DType::f32, {6, 50}, 1);
  const LeafPaths paths_{{"model.w", {"model", "w"}},
                         {"list.0", {"list", std::int64_t{0}}},
                         {"list.1", {"list", std::int64_t{1}}}};

  // Two ranks with three rows of 'model.w' each; rank 1 has two values, one of them long.
  void save() const {
    StepInParts step(this->step(), kMark, false);
    const std::vector<std::string> reports{
        write(this->step(), 1, 2,
              Value::dict({{"model.w", piece(w_, {3, 0}, {3, 50})},
                           {"list.0", std::string(4000, 'x')},
                           {"list.1", 7}})),
        write(this->step(), 0, 2, Value::dict({{"model.w", piece(w_, {0, 0}, {3, 50})}}))};
    EXPECT_THAT(names_in(folder_.path()), ElementsAre("step-3.tmp-0123abcd"));
    EXPECT_EQ(step.commit(reports, paths_, Value::dict({{"loss", 0.5}})), this->step());
  }
};

TEST_F(Parts, BecomeOneStep) {
  save();
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("step-3"));
  EXPECT_THAT(names_in(step()),
              ElementsAre("checkpoint.json", "index.json", "shard-00000-of-00002.safetensors",
                          "shard-00001-of-00002.safetensors"));
  EXPECT_THAT(store::verify_step(step()).damage, IsEmpty());
  Checkpointer checkpointer({.directory = folder_.path()});
  const auto restored = checkpointer.restore();
  EXPECT_EQ(fakes::dense(restored.state.at("model").at("w").as_tensor()), fakes::dense(w_));
  EXPECT_EQ(restored.state.at("list").items()[0].as_text(), std::string(4000, 'x'));
  EXPECT_EQ(restored.state.at("list").items()[1].as_integer(), 7);
  EXPECT_EQ(restored.metadata.at("loss").as_floating(), 0.5);
}

TEST_F(Parts, AreReadIntoAnyMemory) {
  save();
  PartReader reader(step());
  ASSERT_EQ(reader.chunks("model.w").size(), 2u);
  // Rows and columns across both shards; and every second element of a row of its own.
  const auto dense = Tensor::zeros(DType::f32, {4, 10}), wide = Tensor::zeros(DType::f32, {50, 12});
  const Tensor transposed(wide.storage(), DType::f32, {6, 50}, {2, 12}, 4);
  const BoxRead boxes[] = {{"model.w", {1, 20}, dense}, {"model.w", {0, 0}, transposed}};
  reader.read(boxes);
  const ranks::Chunk part{{1, 20}, {4, 10}};
  EXPECT_EQ(fakes::dense(dense), fakes::dense(ranks::view_of(w_, ranks::whole(w_.shape()), part)));
  EXPECT_EQ(fakes::dense(transposed), fakes::dense(w_));
  EXPECT_EQ(reader.value("list.0").as_text(), std::string(4000, 'x'));
  EXPECT_EQ(reader.value("list").items().size(), 2u);
  EXPECT_EQ(fakes::dense(reader.value("model").at("w").as_tensor()), fakes::dense(w_));
  EXPECT_TRUE(reader.has("model") && !reader.has("model.v"));
  fakes::expect_error(ErrorCode::invalid, "'model.w' is float32 [6, 50]", [&] {
    reader.read(std::vector<BoxRead>{{"model.w", {3, 45}, Tensor::zeros(DType::f32, {4, 10})}});
  });
  fakes::expect_error(ErrorCode::not_found, "has nothing named 'v'", [&] { reader.value("v"); });
}

TEST_F(Parts, OfAStepThatCheckpointersSavedAreRead) {
  std::vector<Value> states;
  for (int rank = 0; rank < 3; ++rank) {
    states.push_back(Value::dict(
        {{"model", Value::dict({{"w", fakes::part_of(w_, 1, rank, 3)}})},
         {"optimizer", Value::dict({{0, Value::dict({{"step", Tensor::zeros(DType::f32, {})}})}})},
         {"text", std::string(4000, 'x')},
         {"betas", Value::list({0.9, 0.99})}}));
  }
  fakes::save_by_ranks(folder_, 3, states);
  PartReader reader(step());
  std::vector<std::string> names;
  for (const auto& leaf : reader.leaves()) {
    names.push_back(leaf.name + (leaf.is_tensor ? ", a tensor" : ""));
  }
  EXPECT_THAT(names,
              ElementsAre("model.w, a tensor", "optimizer.0.step, a tensor", "text", "betas"));
  const auto rows = Tensor::zeros(DType::f32, {2, 50});
  reader.read(std::vector<BoxRead>{{"model.w", {4, 0}, rows}});
  EXPECT_EQ(fakes::dense(rows),
            fakes::dense(ranks::view_of(w_, ranks::whole(w_.shape()), {{4, 0}, {2, 50}})));
  EXPECT_EQ(reader.value("text").as_text(), std::string(4000, 'x'));
  EXPECT_EQ(reader.value("betas").items()[1].as_floating(), 0.99);
}

TEST_F(Parts, OfOneWriterAreAStateByItself) {
  {
    StepInParts step(this->step(), kMark, false);
    const std::vector<std::string> reports{
        write(this->step(), 0, 1, Value::dict({{"model.w", w_}, {"list.1", 7}}), 0, true, paths_)};
    step.commit(reports, paths_);
  }
  EXPECT_THAT(names_in(step()), ElementsAre("checkpoint.json", "shard-00000-of-00001.safetensors"));
  PartReader reader(step());
  EXPECT_TRUE(reader.value("list.0").type() == Value::Type::none || !reader.has("list.0"));
  EXPECT_EQ(reader.value("list").items()[1].as_integer(), 7);
  const auto column = Tensor::zeros(DType::f32, {6, 1});
  reader.read(std::vector<BoxRead>{{"model.w", {0, 49}, column}});
  EXPECT_EQ(fakes::dense(column),
            fakes::dense(ranks::view_of(w_, ranks::whole(w_.shape()), {{0, 49}, {6, 1}})));
}

TEST_F(Parts, ASecondChunkOfATensorHasAFileOfItsOwn) {
  StepInParts step(this->step(), kMark, false);
  const std::vector<std::string> reports{
      write(this->step(), 0, 1, Value::dict({{"w", piece(w_, {0, 0}, {4, 50})}}), 0, false),
      write(this->step(), 0, 1, Value::dict({{"w", piece(w_, {4, 0}, {2, 50})}}), 1, false)};
  step.commit(reports, {});
  EXPECT_THAT(names_in(this->step()),
              ElementsAre("checkpoint.json", "index.json", "shard-00000-of-00001-1.safetensors",
                          "shard-00000-of-00001.safetensors"));
  EXPECT_THAT(store::verify_step(this->step()).damage, IsEmpty());
  EXPECT_EQ(fakes::dense(load_file(this->step()).at("w").as_tensor()), fakes::dense(w_));
}

TEST_F(Parts, ThatDoNotMakeUpATensorAreRefusedAndLeaveNothing) {
  const auto half = Value::dict({{"w", piece(w_, {0, 0}, {3, 50})}});
  const auto none = Value::dict({{"x", 1}});
  {
    StepInParts step(this->step(), kMark, false);
    const std::vector<std::string> reports{write(this->step(), 0, 2, half),
                                           write(this->step(), 1, 2, none)};
    fakes::expect_error(ErrorCode::invalid, "150 of the 300 elements of 'w' are in no chunk",
                        [&] { step.commit(reports, {}); });
  }
  EXPECT_THAT(names_in(folder_.path()), IsEmpty());
  {
    StepInParts step(this->step(), kMark, false);
    const std::vector<std::string> reports{write(this->step(), 0, 2, none)};
    fakes::expect_error(ErrorCode::invalid, "rank 1 of 2 has reported no part",
                        [&] { step.commit(reports, {}); });
  }
  StepInParts step(this->step(), kMark, false);
  fakes::expect_error(ErrorCode::corrupt, "makes no sense",
                      [&] { step.commit(std::vector<std::string>{"what"}, {}); });
}

TEST_F(Parts, WhatIsNotCommittedVanishes) {
  {
    StepInParts step(this->step(), kMark, false);
    write(this->step(), 0, 1, Value::dict({{"w", w_}}));
  }
  EXPECT_THAT(names_in(folder_.path()), IsEmpty());
  fakes::expect_error(ErrorCode::io, "which the coordinator has made, is not here", [&] {
    write(step(), 0, 1, Value::dict({{"w", w_}}));
  });
}

// A step that waits for its parts does not keep others from being saved, nor do they clear it.
TEST_F(Parts, OthersCommitMeanwhile) {
  StepInParts step(this->step(), kMark, false);
  std::filesystem::create_directory(folder_.path() / "step-9.tmp-00000000");
  {
    Checkpointer checkpointer({.directory = folder_.path()});
    checkpointer.save(1, Value::dict({{"w", w_}})).wait();
  }
  StepInParts other(folder_.path() / "best", kMark, false);
  const std::vector<std::string> reports{write(this->step(), 0, 1, Value::dict({{"w", w_}}))};
  step.commit(reports, {});
  other.abandon();
  EXPECT_THAT(names_in(folder_.path()),
              UnorderedElementsAre("step-1", "step-3", "step-9.tmp-00000000"));
  EXPECT_THAT(Checkpointer({.directory = folder_.path()}).steps(), ElementsAre(1, 3));
}

// Nobody tells a coordinator that another rank has failed: the next save of the path takes over.
TEST_F(Parts, ANewSaveTakesThePlaceOfOneThatWasLeft) {
  auto left = std::make_unique<StepInParts>(step(), kMark, false);
  const auto old = write(step(), 0, 1, Value::dict({{"w", 1}}));
  StepInParts next(step(), kMark, false);
  const auto report = write(step(), 0, 1, Value::dict({{"w", 2}}));
  fakes::expect_error(ErrorCode::busy, "has been begun anew",
                      [&] { left->commit(std::vector<std::string>{old}, {}); });
  left.reset();
  next.commit(std::vector<std::string>{report}, {});
  EXPECT_THAT(names_in(folder_.path()), ElementsAre("step-3"));
  EXPECT_EQ(load_file(step()).at("w").as_integer(), 2);
}

TEST_F(Parts, PathsThatCannotBothBeAreRefused) {
  StepInParts step(this->step(), kMark, false);
  const LeafPaths paths{{"a", {"x"}}, {"b", {"x", "y"}}};
  fakes::expect_error(
      ErrorCode::invalid, "'b' cannot lie where something of another kind lies", [&] {
        write(this->step(), 0, 1, Value::dict({{"a", 1}, {"b", 2}}), 0, true, paths);
      });
}

}  // namespace
}  // namespace understudy
