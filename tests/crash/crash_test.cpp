// A process that saves is killed with SIGKILL at random moments, again and
// again, on one folder. Nothing acknowledged is lost, nothing torn is listed,
// leftovers are cleared, files of others are left alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <vector>

#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/commit.h"
#include "store/names.h"
#include "store/reader.h"
#include "store/verify.h"

namespace understudy::store {
namespace {

namespace fs = std::filesystem;

constexpr int kKills = 80;
// A slow disk, or a sanitizer, has fewer of them fall where they hurt: more kills,
// until enough have.
constexpr int kMostKills = 4 * kKills;
constexpr int kKeep = 3;
// Several blocks, so that kills fall between them.
constexpr std::size_t kNbytes = 2 * format::kBlockNbytes + 54'321;
// In commits: kills fall everywhere in one, and between them.
constexpr int kLongestLife = 3;

/// What the saving process says, before a commit and after it.
struct Message {
  enum Type : std::int64_t { begun, acknowledged };
  std::int64_t type = begun;
  std::int64_t step = 0;
  std::int64_t seed = 0;
};

fakes::Shard make_shard(std::int64_t seed) {
  return fakes::Shard({{"seed", std::to_string(seed)},
                       {"w", fakes::pattern(kNbytes, static_cast<unsigned>(seed % 4))}});
}

std::int64_t read_seed(const fs::path& step) {
  const ShardReader reader = open_step(look_at_step(step));
  std::vector<std::byte> bytes(reader.block_nbytes(0));
  reader.read_block(0, bytes);
  const auto& entries = reader.header().entries;
  const auto seed = std::ranges::find(entries, "seed", &format::Entry::name);
  return std::stoll(
      std::string(reinterpret_cast<const char*>(bytes.data()) + seed->begin, seed->nbytes()));
}

/// Saves for ever: new steps, and now and then the newest one again.
[[noreturn]] void save_for_ever(const fs::path& directory, std::int64_t step, std::int64_t seed,
                                int out) {
  const auto tell = [&](Message::Type type) {
    const Message message{type, step, seed};
    if (write(out, &message, sizeof message) != sizeof message) _exit(1);
  };
  try {
    const auto lock = lock_folder(directory);
    Writer writer({.threads = 2});
    for (;; ++seed) {
      const bool overwrite = seed % 3 == 0 && step > 0;
      if (!overwrite) ++step;
      fakes::Shard shard = make_shard(seed);
      tell(Message::begun);
      commit_step(*lock, step, shard, "null", writer, {.overwrite = overwrite, .keep = kKeep});
      tell(Message::acknowledged);
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
  }
  _exit(1);
}

/// What the folder must hold, by what the killed processes said.
class Expected {
 public:
  void hear(const Message& message) {
    seed_ = std::max(seed_, message.seed);
    under_way_ = message.type == Message::begun ? std::optional(message) : std::nullopt;
    if (message.type == Message::acknowledged) acknowledged_[message.step] = message.seed;
    while (acknowledged_.size() > kKeep) acknowledged_.erase(acknowledged_.begin());
  }

  /// A commit that was under way when the process died may have happened, and
  /// retention with it.
  void settle(const fs::path& directory) {
    if (!under_way_) return;
    const fs::path step = directory / step_name(under_way_->step);
    if (fs::exists(step) && read_seed(step) == under_way_->seed) {
      acknowledged_[under_way_->step] = under_way_->seed;
      while (acknowledged_.size() > kKeep) acknowledged_.erase(acknowledged_.begin());
    }
    under_way_.reset();
  }

  bool is_under_way() const { return under_way_.has_value(); }
  const std::map<std::int64_t, std::int64_t>& acknowledged() const { return acknowledged_; }
  std::int64_t newest() const { return acknowledged_.empty() ? 0 : acknowledged_.rbegin()->first; }
  std::int64_t seed() const { return seed_; }

 private:
  std::map<std::int64_t, std::int64_t> acknowledged_;  ///< step to seed
  std::optional<Message> under_way_;
  std::int64_t seed_ = 0;
};

/// A forked saver, and what it says.
class Saver {
 public:
  Saver(const fs::path& directory, Expected& expected) : expected_(expected) {
    int said[2];
    if (pipe(said) != 0) throw std::runtime_error("no pipe");
    std::cout.flush();
    pid_ = fork();
    if (pid_ == 0) {
      close(said[0]);
      save_for_ever(directory, expected.newest(), expected.seed() + 1, said[1]);
    }
    close(said[1]);
    said_ = said[0];
  }
  ~Saver() { close(said_); }

  /// Waits for the next message; false when the saver has ended.
  bool hear() {
    Message message;
    if (read(said_, &message, sizeof message) != sizeof message) return false;
    expected_.hear(message);
    return true;
  }

  void kill_now() {
    kill(pid_, SIGKILL);
    int status = 0;
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the saver ended by itself, status " << status;
    while (hear()) {
    }
  }

 private:
  Expected& expected_;
  pid_t pid_ = -1;
  int said_ = -1;
};

/// How long this machine takes for a commit just now: kills that are not
/// measured by it would all fall before the first, or after many.
int commit_microseconds(const fs::path& directory, Expected& expected) {
  constexpr int kCommits = 4;
  Saver saver(directory, expected);
  EXPECT_TRUE(saver.hear());
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 2 * kCommits; ++i) EXPECT_TRUE(saver.hear());
  const std::chrono::duration<double, std::micro> elapsed =
      std::chrono::steady_clock::now() - began;
  saver.kill_now();
  expected.settle(directory);
  return static_cast<int>(elapsed.count() / kCommits);
}

/// Kills a saver `microseconds` after its first commit began.
void run_and_kill(const fs::path& directory, int microseconds, Expected& expected) {
  Saver saver(directory, expected);
  EXPECT_TRUE(saver.hear());
  usleep(static_cast<useconds_t>(microseconds));
  saver.kill_now();
}

void expect_whole_steps(const fs::path& directory) {
  for (const StepFolder& step : look_at_steps(directory)) {
    ASSERT_TRUE(step.is_complete()) << step.problem;
    const FileCheck check = verify_step(step.path);
    EXPECT_TRUE(check.damage.empty()) << check.damage[0].what;
  }
}

void expect_acknowledged_steps(const fs::path& directory, const Expected& expected) {
  for (const auto& [step, seed] : expected.acknowledged()) {
    const fs::path path = directory / step_name(step);
    ASSERT_TRUE(fs::exists(path)) << path << " was acknowledged and is gone";
    EXPECT_EQ(read_seed(path), seed) << path;
  }
}

TEST(Crash, KilledAtRandomMomentsLosesNothing) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  fakes::TemporaryFolder folder;
  const fs::path directory = folder / "run";
  fs::create_directory(directory);
  const std::vector<std::string> strangers = {"notes.txt", "step-1.tmp-notours", "step-01"};
  for (const std::string& name : strangers) fakes::write_text(directory / name, name);

  Expected expected;
  std::uniform_int_distribution life(0, kLongestLife * commit_microseconds(directory, expected));
  int under_way = 0;
  int with_leftovers = 0;
  int kills = 0;
  const auto have_hurt = [&] {
    return under_way > kKills / 10 && with_leftovers > kKills / 20 &&
           expected.newest() > kKills / 10;
  };
  for (; kills < kMostKills && !testing::Test::HasFailure(); ++kills) {
    if (kills >= kKills && have_hurt()) break;
    SCOPED_TRACE("kill " + std::to_string(kills));
    run_and_kill(directory, life(random), expected);
    under_way += expected.is_under_way();

    // As a reader finds it, who takes no lock.
    expect_whole_steps(directory);
    const auto count = [&] {
      return static_cast<std::size_t>(
          std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
    };
    const std::size_t before = count();
    lock_folder(directory);
    with_leftovers += count() < before;

    expect_whole_steps(directory);
    expected.settle(directory);
    expect_acknowledged_steps(directory, expected);
    // The lock's file, the strangers', at most one step that retention had not
    // come to, and no leftovers.
    EXPECT_LE(count(), 1 + strangers.size() + kKeep + 1);
    for (const auto& entry : fs::directory_iterator(directory)) {
      EXPECT_FALSE(step_of_marked_name(entry.path().filename().native(), kTemporary) ||
                   step_of_marked_name(entry.path().filename().native(), kSetAside) ||
                   step_of_marked_name(entry.path().filename().native(), kDoomed))
          << entry.path();
    }
  }
  for (const std::string& name : strangers) {
    EXPECT_EQ(fakes::read_text(directory / name), name);
  }
  // Else the kills did not fall where they hurt, and the test tested nothing.
  EXPECT_TRUE(have_hurt());
  std::cout << kills << " kills, " << under_way << " during a commit, " << with_leftovers
            << " with leftovers, up to step " << expected.newest() << std::endl;
}

}  // namespace
}  // namespace understudy::store
