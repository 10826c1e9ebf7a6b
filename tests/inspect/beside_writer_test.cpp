// Every reader beside a writer that overwrites or retires the step it reads: at each
// call it makes, one after the other, and in a race.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "fakes/before_call.h"
#include "fakes/expect_error.h"
#include "fakes/states.h"
#include "os/calls.h"
#include "understudy/inspect.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;
using fakes::training_state;

constexpr int kOld = 7, kNew = 70;  // what the states tell

int told(const Value& state) {
  for (const auto& [key, value] : state.pairs()) {
    if (key.type() == Value::Type::text && key.as_text() == "step")
      return static_cast<int>(value.as_integer());
  }
  ADD_FAILURE() << "a state without its step";
  return -1;
}

void save(const fs::path& run, std::int64_t step, int seed) {
  Checkpointer ckpt({.directory = run});
  ckpt.save(step, training_state(seed)).wait();
  ckpt.close();
}

/// A run with an older step and one that is to go, and what takes its place.
class Scene {
 public:
  Scene() {
    save(run(), 3, 3);
    save(run(), 7, kOld);
    save(folder_ / "overwritten", 7, kNew);
    save(folder_ / "next", 8, kNew);
  }

  fs::path run() const { return folder_ / "run"; }

  void overwrite() const {
    fs::rename(run() / "step-7", run() / "step-7.tmp-01234567");
    fs::rename(folder_ / "overwritten/step-7", run() / "step-7");
    fs::remove_all(run() / "step-7.tmp-01234567");
  }
  void retire() const {
    fs::rename(folder_ / "next/step-8", run() / "step-8");
    for (const std::string name : {"step-3", "step-7"}) {
      fs::rename(run() / name, run() / (name + ".del-01234567"));
      fs::remove_all(run() / (name + ".del-01234567"));
    }
  }

 private:
  fakes::TemporaryFolder folder_{fakes::memory_folder()};
};

struct Reader {
  const char* name;
  int (*read)(Checkpointer& ckpt);  ///< what the state told, or kNew where none is told
};

int expect_told(const Value& state) {
  const int seed = told(state);
  EXPECT_EQ(fakes::fingerprint(state), fakes::fingerprint(training_state(seed)));
  return seed;
}

const Reader kReaders[] = {
    {"restore", [](Checkpointer& ckpt) { return expect_told(ckpt.restore().state); }},
    {"resume",
     [](Checkpointer& ckpt) {
       Value state = training_state(0);
       EXPECT_TRUE(ckpt.resume(state));
       return expect_told(state);
     }},
    {"resume from the previous",
     [](Checkpointer& ckpt) {
       Value state = training_state(0);
       EXPECT_TRUE(ckpt.resume(state, {.on_damage = OnDamage::previous}));
       EXPECT_TRUE(ckpt.resumed()->skipped.empty());
       return expect_told(state);
     }},
    {"latest",
     [](Checkpointer& ckpt) {
       EXPECT_GE(ckpt.latest().value_or(-1), 7);
       return kNew;
     }},
    {"describe", [](Checkpointer& ckpt) { return told(describe(ckpt.directory()).at(0).tree); }},
    {"verify",
     [](Checkpointer& ckpt) {
       const auto report = verify(ckpt.directory());
       EXPECT_TRUE(report.is_whole()) << report.damage.at(0).what;
       EXPECT_GT(report.nbytes, 0u);
       return kNew;
     }},
    {"diff",
     [](Checkpointer& ckpt) {
       EXPECT_LE(diff(ckpt.directory(), ckpt.directory()).size(), 12u);
       return kNew;
     }},
    {"export",
     [](Checkpointer& ckpt) {
       const auto out = ckpt.directory() / "out.safetensors";
       EXPECT_EQ(export_state(ckpt.directory(), out).files.size(), 1u);
       fs::remove(out);
       return kNew;
     }},
    {"list",
     [](Checkpointer& ckpt) {
       const auto steps = list_steps(ckpt.directory());
       EXPECT_FALSE(steps.empty());
       for (const auto& step : steps) {
         EXPECT_TRUE(step.is_complete) << step.problem;
         EXPECT_GT(step.nbytes, 10'000u) << "of a folder half removed";
       }
       return kNew;
     }},
};

class BesideWriter : public ::testing::TestWithParam<Reader> {};

TEST_P(BesideWriter, ReadsTheOldOrTheNewWhateverGoesWhen) {
  for (const bool retires : {false, true}) {
    for (int at = 1;; ++at) {
      SCOPED_TRACE("before call " + std::to_string(at) + (retires ? ", retired" : ", overwritten"));
      const Scene scene;
      Checkpointer ckpt({.directory = scene.run()});
      const fakes::BeforeCall before(at, [&] { retires ? scene.retire() : scene.overwrite(); });
      try {
        const int seed = GetParam().read(ckpt);
        EXPECT_TRUE(seed == kOld || seed == kNew) << seed;
      } catch (const Error& error) {
        ADD_FAILURE() << error.what();
      }
      if (HasFailure()) return;
      if (before.was_reached()) continue;
      EXPECT_GT(at, 10) << "calls that were tried";
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Readers, BesideWriter, ::testing::ValuesIn(kReaders),
                         [](const auto& param) {
                           std::string name = param.param.name;
                           std::erase(name, ' ');
                           return name;
                         });

TEST(BesideWriters, StepAskedForByItsPathIsOverwrittenOrGone) {
  for (const bool retires : {false, true}) {
    for (int at = 1;; ++at) {
      SCOPED_TRACE("before call " + std::to_string(at));
      const Scene scene;
      const fakes::BeforeCall before(at, [&] { retires ? scene.retire() : scene.overwrite(); });
      try {
        EXPECT_TRUE(verify(scene.run() / "step-7").is_whole());
        describe(scene.run() / "step-7");
      } catch (const Error& error) {
        EXPECT_TRUE(retires && error.code() == ErrorCode::not_found) << error.what();
      }
      if (HasFailure()) return;
      if (!before.was_reached()) break;
    }
  }
}

TEST(SourcesThatChange, AreErrorsAndNoSignalsAndNothingUnverifiedIsUsed) {
  const fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto source = folder / "source", out = folder / "out", wanted = folder / "wanted";
  save_file(training_state(1), source);
  save_file(training_state(1), folder / "same");
  export_state(source, wanted);
  const auto bytes = fakes::read_text(source);
  for (const bool is_cut : {true, false}) {
    for (int at = 1;; ++at) {
      SCOPED_TRACE("before call " + std::to_string(at) + (is_cut ? ", cut" : ", overwritten"));
      fakes::write_text(source, bytes);
      const fakes::BeforeCall before(at, [&] {
        if (is_cut) return fs::resize_file(source, bytes.size() / 2);
        std::fstream file(source, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(bytes.size() - 4000));
        file << std::string(4000, 'x');
      });
      try {
        fs::remove(out);
        EXPECT_TRUE(diff(source, folder / "same").empty());
        export_state(source, out);
        EXPECT_EQ(fakes::read_text(out), fakes::read_text(wanted));
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::corrupt) << error.what();
        EXPECT_FALSE(fs::exists(out));
      }
      if (HasFailure()) return;
      if (!before.was_reached()) break;
    }
  }
}

TEST(BesideWriters, RaceWithOneThatOverwritesAndRetires) {
  const fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto run = folder / "run";
  save(run, 1, 1);
  std::atomic<bool> is_over = false;
  std::thread writer([&] {
    Checkpointer ckpt({.directory = run, .keep = 1});
    for (int i = 2; i < 300; ++i) {
      const int step = i / 2;  // each once new, once overwritten
      ckpt.save(step, training_state(step), {.overwrite = true}).wait();
    }
    ckpt.close();
    is_over = true;
  });
  Checkpointer ckpt({.directory = run});
  int readings = 0;
  try {
    for (; !is_over; ++readings) {
      for (const auto& reader : kReaders) {
        SCOPED_TRACE(reader.name);
        if (std::string(reader.name) != "latest") reader.read(ckpt);
      }
    }
  } catch (const Error& error) {
    ADD_FAILURE() << error.what();
  }
  writer.join();
  EXPECT_GT(readings, 0);
}

TEST(BesideWriters, StepThatIsReplacedForEverIsSaidToBe) {
  const Scene scene;
  Checkpointer ckpt({.directory = scene.run()});
  // Each look at the shard finds that another folder has the name.
  os::Calls table = os::system_calls();
  static fs::path run;
  run = scene.run();
  table.openat = [](int dir, const char* path, int flags, mode_t mode) {
    if (std::string(path).starts_with("shard-")) {
      fs::rename(run / "step-7", run / "other");
      fs::create_directory(run / "step-7");
      fs::copy(run / "other", run / "step-7");
      fs::remove_all(run / "other");
    }
    return ::openat(dir, path, flags, mode);
  };
  const os::ReplaceCalls replaced(table);
  fakes::expect_error(ErrorCode::busy, "as often as it is read", [&] { ckpt.restore(); });
  fakes::expect_error(ErrorCode::busy, "as often as it is read", [&] { verify(run / "step-7"); });
}

}  // namespace
}  // namespace understudy
