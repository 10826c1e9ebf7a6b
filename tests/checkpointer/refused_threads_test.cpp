// A system that refuses threads, as one does whose limit of processes is reached: each
// call fails by name or does its work with fewer, and later ones are none the worse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/thread.h"
#include "fakes/states.h"
#include "fakes/temporary_folder.h"
#include "understudy/understudy.h"

namespace understudy {
namespace {

using fakes::training_state;

// Every start that any call here makes, and one more, at which nothing is refused.
constexpr int kMostStarts = 12;

/// Runs `use` with one start refused, or all from that one on. True when it did its
/// work, false when it said that there was no thread.
template <class Use>
bool works_without(int first, bool only_one, const Use& use) {
  const RefuseThreads refused(first, only_one ? 1 : std::numeric_limits<int>::max());
  try {
    use();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::no_space) << e.what();
    EXPECT_NE(std::string(e.what()).find("cannot start the thread 'us-"), std::string::npos)
        << e.what();
    EXPECT_GT(refused.refused(), 0);
    return false;
  }
  return true;
}

class RefusedThreadsTest : public testing::TestWithParam<bool> {};

TEST_P(RefusedThreadsTest, AStagersCallsHappenOrFail) {
  for (const auto capture : {Capture::automatic, Capture::blocking, Capture::overlapped}) {
    for (int first = 1; first <= kMostStarts; ++first) {
      SCOPED_TRACE(first);
      std::optional<Stager> stager;  // the last one ends the threads that all share
      try {
        stager.emplace(StagerOptions{.capture = capture});
      } catch (const Error& e) {
        if (e.code() == ErrorCode::unsupported) break;  // no overlapped capture here
        throw;
      }
      // Large enough to be overlapped.
      const auto state = Value::dict({{"w", fakes::counting(DType::u8, {24 << 20}, first)}});
      works_without(first, GetParam(), [&] { stager->prewarm(state).wait(); });
      std::optional<Snapshot> snapshot;
      works_without(first, GetParam(), [&] { snapshot = stager->stage(state).wait(); });
      if (!snapshot) snapshot = stager->stage(state).wait();
      const auto expected = state.at("w").as_tensor(), seen = snapshot->state().at("w").as_tensor();
      EXPECT_EQ(std::memcmp(seen.data(), expected.data(), expected.nbytes()), 0);
    }
  }
}

TEST_P(RefusedThreadsTest, FilesAreWrittenReadAndVerifiedByFewer) {
  const fakes::TemporaryFolder folder(fakes::memory_folder());
  const auto path = folder / "state.safetensors";
  const auto state = training_state(3);
  for (int first = 1; first <= kMostStarts; ++first) {
    SCOPED_TRACE(first);
    EXPECT_TRUE(works_without(first, GetParam(), [&] { save_file(state, path); }));
    EXPECT_TRUE(works_without(first, GetParam(), [&] {
      EXPECT_EQ(fakes::fingerprint(load_file(path)), fakes::fingerprint(state));
    }));
    EXPECT_TRUE(works_without(first, GetParam(), [&] { EXPECT_TRUE(verify(path).is_whole()); }));
    EXPECT_TRUE(works_without(first, GetParam(), [&] { EXPECT_TRUE(diff(path, path).empty()); }));
  }
}

TEST_P(RefusedThreadsTest, ASaveHappensOrFailsAndTheNextOnesHappen) {
  const auto state = training_state(3);
  for (int first = 1; first <= kMostStarts; ++first) {
    SCOPED_TRACE(first);
    const fakes::TemporaryFolder folder(fakes::memory_folder());
    Checkpointer ckpt({.directory = folder / "run"});
    const bool is_saved = works_without(first, GetParam(), [&] { ckpt.save(1, state).wait(); });
    EXPECT_EQ(ckpt.steps().size(), is_saved ? 1 : 0);
    ckpt.save(2, training_state(4)).wait();
    const auto seen = ckpt.restore();
    EXPECT_EQ(seen.step, 2);
    EXPECT_EQ(fakes::fingerprint(seen.state), fakes::fingerprint(training_state(4)));
  }
}

TEST_P(RefusedThreadsTest, AMirrorCopiesWithFewer) {
  for (int first = 1; first <= 4; ++first) {
    Mirror mirror({.threads = 4});
    std::vector<std::byte> from(20 << 20, std::byte{7});
    const auto to = mirror.take(from.size());
    EXPECT_TRUE(works_without(first, GetParam(), [&] {
      mirror.copy({{from.data(), to->data, from.size()}});
    }));
    EXPECT_EQ(std::memcmp(from.data(), to->data, from.size()), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(OneOrAll, RefusedThreadsTest, testing::Bool());

}  // namespace
}  // namespace understudy
