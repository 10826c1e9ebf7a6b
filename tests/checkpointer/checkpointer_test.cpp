#include "understudy/checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "os/calls.h"
#include "store/manifest.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using fakes::training_state;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointerTest : public ::testing::Test {
 protected:
  Checkpointer open(std::optional<int> keep = {}) {
    return Checkpointer({.directory = folder_.path() / "run", .keep = keep});
  }

  fs::path shard(std::int64_t step) const {
    return folder_.path() / "run" / ("step-" + std::to_string(step)) /
           "shard-00000-of-00001.safetensors";
  }

  void flip_last_byte(const fs::path& file) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(-1, std::ios::end);
    const auto c = static_cast<char>(f.get() ^ 1);
    f.seekp(-1, std::ios::end);
    f.put(c);
  }

  fakes::TemporaryFolder folder_;
};

// A resumable object that remembers what it was given.
class FakeObject : public Loadable {
 public:
  std::string check(const Value&) override { return objection; }
  void load(const Value& state) override {
    if (fails) throw std::runtime_error("no");
    loaded = state;
  }
  std::string objection;
  bool fails = false;
  Value loaded;
};

TEST_F(CheckpointerTest, SavesAndRestores) {
  auto ckpt = open();
  const auto metadata =
      Value::dict({{"loss", 0.5}, {"tags", Value::list({"a", 1, true, Value()})}});
  const auto path = ckpt.save(7, training_state(7), {.metadata = metadata}).wait();
  EXPECT_EQ(path, folder_.path() / "run" / "step-7");
  const auto got = ckpt.restore();
  EXPECT_EQ(got.step, 7);
  EXPECT_EQ(got.source, "disk");
  EXPECT_THAT(got.reader, HasSubstr("page cache, "));
  EXPECT_EQ(fingerprint(got.state), fingerprint(training_state(7)));
  EXPECT_EQ(fingerprint(got.metadata), fingerprint(metadata));
  EXPECT_EQ(ckpt.restore({.names = {"model.bias"}}).state.pairs().size(), 1u);
}

TEST_F(CheckpointerTest, ListsAndKeepsTheNewest) {
  auto ckpt = open(2);
  EXPECT_EQ(ckpt.latest(), std::nullopt);
  for (int step : {1, 2, 10, 11}) ckpt.save(step, training_state(step));
  ckpt.close();
  EXPECT_THAT(ckpt.steps(), ElementsAre(10, 11));
  EXPECT_EQ(ckpt.latest(), 11);
}

TEST_F(CheckpointerTest, StateMayChangeAsSoonAsSaveReturns) {
  auto ckpt = open();
  const auto state = training_state(1);
  const auto before = fingerprint(state);
  const auto ticket = ckpt.save(1, state);
  std::memset(state.at("model").at("embed.weight").as_tensor().data(), 0, 300 * 70 * 4);
  ticket.wait();
  EXPECT_EQ(fingerprint(ckpt.restore().state), before);
  const auto metrics = ticket.metrics();
  EXPECT_GT(metrics.durable_s, 0);
  EXPECT_GT(metrics.nbytes, 300u * 70 * 4);
  EXPECT_FALSE(metrics.writer.empty());
  EXPECT_EQ(ticket.progress().first, ticket.progress().second);
}

TEST_F(CheckpointerTest, SavesTheLastStateAgain) {
  auto ckpt = open();
  auto bytes = counting(DType::u8, {10}, 1);
  const auto state_of = [&](int step) { return Value::dict({{"w", bytes}, {"step", step}}); };
  ckpt.save(1, state_of(1), {}, 5).wait();
  bytes.data()[0] = std::byte{77};
  EXPECT_FALSE(ckpt.save_again(2, {4, 6, {}, {}, {}}));
  EXPECT_THAT(ckpt.steps(), ElementsAre(1));
  const auto ticket = ckpt.save_again(2, {5, 6, {{0, Value(2)}}, {}, {}});
  ASSERT_TRUE(ticket);
  ticket->wait();
  EXPECT_EQ(ticket->metrics().plan, "again");
  EXPECT_EQ(fingerprint(ckpt.restore().state), fingerprint(state_of(2)));
  expect_error(ErrorCode::invalid, "step 2", [&] { (void)ckpt.save_again(2, {6, 7, {}, {}, {}}); });
  EXPECT_TRUE(ckpt.save_again(3, {6, 7, {}, {}, {}}));
  ckpt.close();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 2, 3));
}

TEST_F(CheckpointerTest, AnExistingStepIsAnErrorUnlessOverwritten) {
  auto ckpt = open();
  ckpt.save(1, training_state(1)).wait();
  expect_error(ErrorCode::invalid, "", [&] { ckpt.save(1, training_state(2)); });
  expect_error(ErrorCode::invalid, "", [&] { ckpt.save(-1, training_state(2)); });
  EXPECT_EQ(fingerprint(ckpt.restore().state), fingerprint(training_state(1)));
  ckpt.save(1, training_state(3), {.overwrite = true}).wait();
  EXPECT_EQ(fingerprint(ckpt.restore().state), fingerprint(training_state(3)));
}

TEST_F(CheckpointerTest, ResumesInPlace) {
  auto ckpt = open();
  auto nothing = training_state(0);
  EXPECT_EQ(ckpt.resume(nothing), std::nullopt);
  ckpt.save(4, training_state(4)).wait();
  auto state = training_state(9);
  const auto* memory = state.at("model").at("embed.weight").as_tensor().data();
  EXPECT_EQ(ckpt.resume(state), 4);
  EXPECT_EQ(fingerprint(state), fingerprint(training_state(4)));
  EXPECT_EQ(state.at("model").at("embed.weight").as_tensor().data(), memory);
  EXPECT_EQ(ckpt.resumed()->step, 4);
  EXPECT_EQ(ckpt.resumed()->source, "disk");
  EXPECT_THAT(ckpt.resumed()->reader, HasSubstr("page cache, "));
}

TEST_F(CheckpointerTest, ObjectsGetMemoryOfTheirOwn) {
  auto ckpt = open();
  ckpt.save(4, training_state(4)).wait();
  const auto object = std::make_shared<FakeObject>();
  Value::Pairs pairs;
  const auto given = training_state(9);
  for (const auto& [key, child] : given.pairs()) {
    pairs.emplace_back(key,
                       key.as_text() == "model" ? Value(Opaque{"Fake", {}, {}, object}) : child);
  }
  auto state = Value::dict(pairs);
  ckpt.resume(state);
  // A later save reuses the image that was read into; the object's part stays.
  for (int step : {5, 6, 7}) ckpt.save(step, training_state(step)).wait();
  EXPECT_EQ(fingerprint(object->loaded), fingerprint(training_state(4).at("model")));
  const auto& model = object->loaded;
  model.at("embed.weight").as_tensor().data()[0] = std::byte{9};
  EXPECT_EQ(std::to_integer<int>(model.at("head.weight").as_tensor().data()[0]), 9);
}

// An object that damages the file between its check and its load.
class Saboteur : public Loadable {
 public:
  explicit Saboteur(fs::path file) : file_(std::move(file)) {}
  std::string check(const Value&) override {
    std::fstream out(file_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekg(-1, std::ios::end);
    const auto last = static_cast<char>(out.get() ^ 1);
    out.seekp(-1, std::ios::end);
    out.put(last);
    return {};
  }
  void load(const Value&) override {}

 private:
  const fs::path file_;
};

TEST_F(CheckpointerTest, AFileThatChangesWhileItIsResumedFromIsAnError) {
  auto ckpt = open();
  const auto step = ckpt.save(4, training_state(4)).wait();
  Value::Pairs pairs;
  const auto given = training_state(9);
  const auto object = std::make_shared<Saboteur>(step / "shard-00000-of-00001.safetensors");
  for (const auto& [key, child] : given.pairs()) {
    pairs.emplace_back(
        key, key.as_text() == "model" ? Value(Opaque{"Saboteur", {}, {}, object}) : child);
  }
  auto state = Value::dict(pairs);
  expect_error(ErrorCode::corrupt, "is damaged", [&] { ckpt.resume(state); });
}

TEST_F(CheckpointerTest, WhatDoesNotFitChangesNothing) {
  auto ckpt = open();
  ckpt.save(4, training_state(4)).wait();
  const auto object = std::make_shared<FakeObject>();
  Value::Pairs pairs;
  const auto given = training_state(9);
  for (const auto& pair : given.pairs()) pairs.push_back(pair);
  pairs.emplace_back("more", 1);
  pairs[0].second = Opaque{"Fake", {}, {}, object};
  object->objection = "the model is another";
  auto state = Value::dict(pairs);
  const auto before = fingerprint(state);
  const auto e = expect_error(ErrorCode::invalid, "", [&] { ckpt.resume(state); });
  EXPECT_THAT(e, AllOf(HasSubstr("'more' is missing in the checkpoint"),
                       HasSubstr("the model is another")));
  EXPECT_EQ(fingerprint(state), before);
  EXPECT_TRUE(object->loaded.is_none());
}

TEST_F(CheckpointerTest, DamageIsAnErrorThatNamesTheNewestOtherStep) {
  auto ckpt = open();
  for (int step : {1, 2, 3}) ckpt.save(step, training_state(step)).wait();
  flip_last_byte(shard(3));
  auto state = training_state(9);
  const auto before = fingerprint(state);
  for (const auto& e : {expect_error(ErrorCode::corrupt, "step 3", [&] { ckpt.restore(); }),
                        expect_error(ErrorCode::corrupt, "step 3", [&] { ckpt.resume(state); })}) {
    EXPECT_THAT(
        e, AllOf(HasSubstr("shard-00000-of-00001.safetensors"),
                 HasSubstr("the newest other complete step is 2 (its bytes were not verified)")));
  }
  EXPECT_EQ(fingerprint(state), before);
  EXPECT_EQ(ckpt.restore({.step = 2}).step, 2);
}

TEST_F(CheckpointerTest, PreviousStepOnDamageSaysWhatWasSkipped) {
  auto ckpt = open();
  for (int step : {1, 2, 3}) ckpt.save(step, training_state(step)).wait();
  flip_last_byte(shard(3));
  fs::resize_file(shard(2), fs::file_size(shard(2)) - 1);
  auto state = training_state(9);
  EXPECT_EQ(ckpt.resume(state, {.on_damage = OnDamage::previous}), 1);
  EXPECT_EQ(fingerprint(state), fingerprint(training_state(1)));
  ASSERT_EQ(ckpt.resumed()->skipped.size(), 2u);
  EXPECT_EQ(ckpt.resumed()->skipped[0].step, 3);
  EXPECT_EQ(ckpt.resumed()->skipped[1].step, 2);
  flip_last_byte(shard(1));
  expect_error(ErrorCode::corrupt, "",
               [&] { ckpt.resume(state, {.on_damage = OnDamage::previous}); });
}

TEST_F(CheckpointerTest, AnUnknownVersionIsRefusedByNameAndIsNoDamage) {
  auto ckpt = open();
  for (int step : {1, 2}) ckpt.save(step, training_state(step)).wait();
  const auto file = folder_.path() / "run" / "step-2" / "checkpoint.json";
  auto manifest = store::read_manifest(fakes::read_text(file), "test");
  manifest.major = 99;
  fakes::write_text(file, store::write_manifest(manifest));
  auto state = training_state(9);
  expect_error(ErrorCode::unsupported, "99", [&] { ckpt.restore(); });
  expect_error(ErrorCode::unsupported, "99",
               [&] { ckpt.resume(state, {.on_damage = OnDamage::previous}); });
}

TEST_F(CheckpointerTest, AFileThatSomebodyPutBesideOursDoesNotStopAResume) {
  auto ckpt = open();
  ckpt.save(1, training_state(1)).wait();
  fakes::write_text(folder_.path() / "run" / "step-1" / "notes.txt", "good run");
  auto state = training_state(9);
  EXPECT_EQ(ckpt.resume(state), 1);
}

TEST_F(CheckpointerTest, MissingStepIsNotFound) {
  auto ckpt = open();
  expect_error(ErrorCode::not_found, "", [&] { ckpt.restore(); });
  ckpt.save(1, training_state(1)).wait();
  expect_error(ErrorCode::not_found, "", [&] { ckpt.restore({.step = 2}); });
}

TEST_F(CheckpointerTest, AFailureIsThrownOnce) {
  auto ckpt = open();
  ckpt.save(1, training_state(1)).wait();
  static std::atomic<int> reached;
  reached = 0;
  auto table = os::system_calls();
  table.fsync = [](int) {
    ++reached;
    errno = EIO;
    return -1;
  };
  {
    os::ReplaceCalls fault(table);
    const auto ticket = ckpt.save(2, training_state(2));
    while (!ticket.is_done()) ticket.wait_done_for(std::chrono::milliseconds(1));
    EXPECT_TRUE(ticket.exception() != nullptr);
  }
  EXPECT_GT(reached, 0);
  expect_error(ErrorCode::io, "", [&] { ckpt.save(3, training_state(3)); });
  ckpt.save(3, training_state(3)).wait();
  EXPECT_THAT(ckpt.steps(), ElementsAre(1, 3));
  EXPECT_NO_THROW(ckpt.close());
}

TEST_F(CheckpointerTest, WhatCannotBeStoredIsRefusedAtOnce) {
  auto ckpt = open();
  const auto e = expect_error(ErrorCode::unsupported, "", [&] {
    ckpt.save(1, Value::dict({{"a", Value::dict({{"b", Opaque{"my.Thing", {}, {}, {}}}})}}));
  });
  EXPECT_THAT(e, AllOf(HasSubstr("my.Thing"), HasSubstr("'a.b'")));
  for (const auto& bad : {Value::dict({{"understudy.float", "nan"}}), Value::dict({{1, 2}}),
                          Value::dict({{"t", counting(DType::u8, {1}, 1)}})}) {
    expect_error(ErrorCode::invalid, "",
                 [&] { ckpt.save(1, training_state(1), {.metadata = bad}); });
  }
  EXPECT_TRUE(ckpt.steps().empty());
}

TEST_F(CheckpointerTest, WaitTimesOutAndCloseIsFinal) {
  auto ckpt = open();
  EXPECT_TRUE(ckpt.wait());
  ckpt.save(1, training_state(1));
  while (!ckpt.wait(std::chrono::milliseconds(1))) {
  }
  ckpt.close();
  ckpt.close();
  expect_error(ErrorCode::closed, "", [&] { ckpt.save(2, training_state(2)); });
  EXPECT_EQ(ckpt.restore().step, 1);
}

TEST_F(CheckpointerTest, TwoInOneProcessShareTheFolder) {
  auto a = open(), b = open();
  a.save(1, training_state(1));
  b.save(2, training_state(2));
  a.close();
  b.close();
  EXPECT_THAT(a.steps(), ElementsAre(1, 2));
}

TEST_F(CheckpointerTest, IsInertInAForkedChild) {
  auto ckpt =
      std::make_unique<Checkpointer>(CheckpointerOptions{.directory = folder_.path() / "run"});
  ckpt->save(1, training_state(1)).wait();
  const auto ticket = ckpt->save(2, training_state(2));
  const auto child = fork();
  if (child == 0) {
    int closed = 0;
    const auto count = [&](auto body) {
      try {
        body();
      } catch (const Error& e) {
        closed += e.code() == ErrorCode::closed;
      }
    };
    count([&] { ckpt->save(3, training_state(3)); });
    count([&] { ckpt->restore(); });
    count([&] { ckpt->steps(); });
    ckpt->close();
    ckpt.reset();
    _exit(closed);
  }
  int status = 0;
  waitpid(child, &status, 0);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 3);
  ticket.wait();
  ckpt->save(3, training_state(3)).wait();
  EXPECT_THAT(ckpt->steps(), ElementsAre(1, 2, 3));
}

TEST_F(CheckpointerTest, OptionsThatCannotBeAreRefused) {
  EXPECT_THROW(Checkpointer({}), Error);
  EXPECT_THROW(Checkpointer({.directory = folder_.path(), .keep = 0}), Error);
  std::ofstream(folder_.path() / "file") << "x";
  expect_error(ErrorCode::io, "", [&] { Checkpointer({.directory = folder_.path() / "file"}); });
}

TEST_F(CheckpointerTest, SnapshotsSaveThemselves) {
  Stager stager;
  const auto file = folder_.path() / "s.safetensors";
  auto snapshot = stager.stage(training_state(6)).wait();
  snapshot.save_file(file, {{"who", std::string(9000, 'm')}});
  EXPECT_EQ(fingerprint(load_file(file)), fingerprint(training_state(6)));
  snapshot.save_file(file);
  EXPECT_GE(fs::file_size(file), snapshot.nbytes());  // a transposed tensor has its own entry
  const auto opaque = stager.stage(Value::dict({{"o", Opaque{"T", {}, {}, {}}}})).wait();
  expect_error(ErrorCode::unsupported, "", [&] { opaque.save_file(file); });
  EXPECT_EQ(fingerprint(load_file(file)), fingerprint(training_state(6)));
}

}  // namespace
}  // namespace understudy
