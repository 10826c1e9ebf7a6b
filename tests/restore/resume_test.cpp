#include "restore/resume.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "fakes/expect_error.h"
#include "fakes/faulty_calls.h"
#include "fakes/states.h"
#include "fakes/watched_reads.h"
#include "understudy/loadable.h"

namespace understudy::restore {
namespace {

using fakes::counting;
using fakes::expect_error;
using fakes::fingerprint;
using ::testing::HasSubstr;

// Keeps what it is given, as an optimizer does.
class Part : public PartLoadable {
 public:
  LoadAnswer ask(const Value& state, const LoadPolicy&) override {
    LoadAnswer answer;
    answer.state = state;
    return answer;
  }
  void prepare(const Value& state) override {
    prepared = state;
    if (refuses) fail_();
  }
  void load(const Value& state) override {
    EXPECT_EQ(fingerprint(prepared), fingerprint(state)) << "its bytes were there";
    taken = state;
    if (fails) fail_();
  }
  Value taken, prepared;
  bool refuses = false, fails = false;

 private:
  static void fail_() { throw Error(ErrorCode::unsupported, "no such thing here"); }
};

class ResumeTest : public ::testing::Test {
 protected:
  ResumeTest() { save_file(saved_, path_); }

  // Large and small tensors, a transposed target, a long text, a part.
  static Value make(int seed) {
    return Value::dict({{"large", counting(DType::f32, {1500, 1000}, seed)},
                        {"small", counting(DType::u8, {100}, seed)},
                        {"strided", counting(DType::f32, {30, 40}, seed)},
                        {"part", counting(DType::f32, {400, 1000}, seed)},
                        {"text", std::string(100000, static_cast<char>('a' + seed))}});
  }

  Value target() {
    auto state = make(7);
    Value::Pairs pairs;
    for (const auto& [key, child] : state.pairs()) {
      if (key.as_text() == "strided") {
        const auto t = counting(DType::f32, {40, 30}, 9);
        pairs.emplace_back(key, Tensor(t.storage(), DType::f32, {30, 40}, {1, 30}));
      } else if (key.as_text() == "part") {
        Opaque o;
        o.type_name = "Part";
        o.loadable = part_;
        pairs.emplace_back(key, Value(o));
      } else {
        pairs.emplace_back(key, child);
      }
    }
    return Value::dict(std::move(pairs));
  }

  std::string resume(Value& state, const ResumeRules& rules = {}) {
    return resume_into(*file_, state, rules, reader_, copiers_).how;
  }

  /// What the caller would see of a state.
  std::string look(const Value& state) const {
    return fingerprint(state) + "|" + fingerprint(part_->taken);
  }

  fakes::TemporaryFolder folder_;
  const std::filesystem::path path_ = folder_.path() / "s.safetensors";
  const Value saved_ = make(3);
  std::optional<store::ShardReader> file_;
  std::shared_ptr<Part> part_ = std::make_shared<Part>();
  WorkerPool reader_{"test", 1};  // one thread: reads come in a known order
  WorkerPool copiers_{"copy", 2};
};

TEST_F(ResumeTest, BringsBackEverything) {
  file_.emplace(path_);
  auto state = target();
  const auto* large = state.at("large").as_tensor().data();
  EXPECT_THAT(resume(state), HasSubstr("page cache, 1 thread"));
  EXPECT_EQ(state.at("large").as_tensor().data(), large);
  for (const auto* name : {"large", "small", "strided", "text"}) {
    EXPECT_EQ(fingerprint(state.at(name)), fingerprint(saved_.at(name))) << name;
  }
  EXPECT_EQ(fingerprint(part_->taken), fingerprint(saved_.at("part")));
}

// Whatever read fails: either nothing has changed, or the message says so.
TEST_F(ResumeTest, AFailureAtAnyReadIsHonest) {
  file_.emplace(path_);
  int before = 0, after = 0;
  for (int nth = 1;; ++nth) {
    part_ = std::make_shared<Part>();
    auto state = target();
    const auto was = look(state);
    const fakes::FaultyCalls faults({fakes::FaultMode::fail, nth, EIO, "pread"});
    try {
      resume(state);
      EXPECT_FALSE(faults.was_reached());
      break;
    } catch (const Error& e) {
      ASSERT_TRUE(faults.was_reached());
      EXPECT_EQ(to_string(e.code()), to_string(ErrorCode::io));
      EXPECT_THAT(e.what(), HasSubstr(path_.native()));
      const bool says_so = std::string(e.what()).find("must not be used") != std::string::npos;
      ++(says_so ? after : before);
      EXPECT_TRUE(says_so || look(state) == was) << nth << ": " << e.what();
    }
  }
  EXPECT_GT(before, 5);
  EXPECT_GT(after, 5);
}

// Before each read in turn the file is cut: as above.
TEST_F(ResumeTest, AFileThatIsCutIsHonest) {
  int before = 0, after = 0;
  for (int nth = 1;; ++nth) {
    save_file(saved_, path_);
    file_.emplace(path_);
    part_ = std::make_shared<Part>();
    auto state = target();
    const auto was = look(state);
    const fakes::WatchedReads watched(nth, [&] { std::filesystem::resize_file(path_, 4096); });
    try {
      resume(state);
      EXPECT_FALSE(watched.was_reached());
      break;
    } catch (const Error& e) {
      ASSERT_TRUE(watched.was_reached());
      EXPECT_EQ(to_string(e.code()), to_string(ErrorCode::corrupt));
      EXPECT_THAT(e.what(), HasSubstr("ends at byte"));
      const bool says_so = std::string(e.what()).find("must not be used") != std::string::npos;
      ++(says_so ? after : before);
      EXPECT_TRUE(says_so || look(state) == was) << nth << ": " << e.what();
    }
  }
  EXPECT_GT(before, 5);
  EXPECT_GT(after, 5);
}

TEST_F(ResumeTest, AFileThatIsOverwrittenBetweenTheTwoReadsIsFound) {
  file_.emplace(path_);
  auto state = target();
  int reads = 0;
  {
    const fakes::WatchedReads watched;
    resume(state);
    reads = watched.count();
  }
  // The last read of the first pass is long over, the last of the second to come.
  const fakes::WatchedReads watched(reads * 3 / 4, [&] {
    std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(-10, std::ios::end);
    out.put('\x55');
    out.seekp(static_cast<std::streamoff>(file_->header().header_nbytes + 10));
    out.put('\x55');
  });
  const auto message = expect_error(ErrorCode::corrupt, "is damaged", [&] { resume(state); });
  EXPECT_TRUE(watched.was_reached());
  EXPECT_THAT(message, HasSubstr("must not be used"));
}

TEST_F(ResumeTest, WhatCannotBePreparedChangesNothing) {
  file_.emplace(path_);
  auto state = target();
  const auto was = look(state);
  part_->refuses = true;
  expect_error(ErrorCode::unsupported, "no such thing here", [&] { resume(state); });
  EXPECT_EQ(look(state), was);
}

TEST_F(ResumeTest, AnObjectThatFailsHasChangedTheState) {
  file_.emplace(path_);
  auto state = target();
  part_->fails = true;
  expect_error(ErrorCode::unsupported, "overwritten in part: it must not be used",
               [&] { resume(state); });
}

TEST_F(ResumeTest, TargetsThatShareMemoryNeedEqualValues) {
  const Value a = counting(DType::f32, {50}, 1), b = counting(DType::f32, {50}, 2);
  save_file(Value::dict({{"x", a}, {"y", b}, {"z", a}}), path_);
  file_.emplace(path_);
  const Value w = counting(DType::f32, {50}, 7), v = counting(DType::f32, {50}, 8);
  auto conflict = Value::dict({{"x", w}, {"y", w}, {"z", v}});
  const auto was = fingerprint(conflict);
  expect_error(ErrorCode::invalid, "'x' and 'y' share memory here", [&] { resume(conflict); });
  EXPECT_EQ(fingerprint(conflict), was);
  auto fine = Value::dict({{"x", w}, {"y", v}, {"z", w}});
  resume(fine);
  EXPECT_EQ(fingerprint(fine), fingerprint(Value::dict({{"x", a}, {"y", b}, {"z", a}})));
}

TEST_F(ResumeTest, DamageAndMisfitsChangeNothing) {
  file_.emplace(path_);
  auto misfit = Value::dict({{"large", counting(DType::f32, {1500, 1000}, 1)}});
  const auto was = fingerprint(misfit);
  expect_error(ErrorCode::invalid, "nothing was changed", [&] { resume(misfit); });
  EXPECT_EQ(fingerprint(misfit), was);
  std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(-10, std::ios::end);
  out.put('\x55');
  out.close();
  auto state = target();
  const auto before = look(state);
  expect_error(ErrorCode::corrupt, "is damaged", [&] { resume(state); });
  EXPECT_EQ(look(state), before);
}

}  // namespace
}  // namespace understudy::restore
