// A folder of steps under test, and what must hold in it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/checks.h"
#include "store/commit.h"
#include "store/reader.h"
#include "store/verify.h"

namespace understudy::store {

/// The shard file of a step.
inline constexpr const char* kShardName = "shard-00000-of-00001.safetensors";

class RunFolder {
 public:
  explicit RunFolder(const std::filesystem::path& parent = std::filesystem::temp_directory_path(),
                     WriterChoice choice = WriterChoice::automatic)
      : folder_(parent), choice_(choice) {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  /// Commits one small step whose bytes come from `seed`.
  Committed commit(std::int64_t step, unsigned seed, const CommitOptions& options = {}) {
    const auto lock = lock_folder(path_);
    // One thread: the order of calls is always the same.
    Writer writer({.threads = 1, .choice = choice_});
    fakes::Shard shard = fakes::small_shard(seed);
    return commit_step(*lock, step, shard, "null", writer, options);
  }

  /// The same; `event` happens while the shard is written.
  Committed commit_during(std::int64_t step, unsigned seed, const CommitOptions& options,
                          std::function<void()> event) {
    const auto lock = lock_folder(path_);
    Writer writer({.threads = 1, .choice = choice_});
    fakes::EventfulShard shard(seed, std::move(event));
    return commit_step(*lock, step, shard, "null", writer, options);
  }

  /// Complete steps as listed.
  std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> steps;
    for (const StepFolder& folder : look_at_steps(path_)) {
      if (folder.is_complete()) steps.push_back(folder.step);
    }
    return steps;
  }

  /// The names in the folder but the lock's, sorted.
  std::vector<std::string> names() const {
    std::vector<std::string> names = os::Directory::open(path_).list();
    std::erase(names, ".understudy.lock");
    return names;
  }

  /// The step is listed, whole to the last byte, and that of `seed`.
  void expect_step(std::int64_t step, unsigned seed) const {
    SCOPED_TRACE("step " + std::to_string(step));
    const StepFolder found = look_at_step(path_ / step_name(step));
    ASSERT_TRUE(found.is_complete()) << found.problem;
    EXPECT_EQ(found.step, step);
    const FileCheck check = verify_step(found.path);
    EXPECT_TRUE(check.damage.empty()) << check.damage[0].what;
    EXPECT_TRUE(has_bytes(step, seed)) << "another seed's bytes";
  }

  /// The step, which must be complete, is that of `seed`.
  bool has_bytes(std::int64_t step, unsigned seed) const {
    return has_bytes_of(open_step(look_at_step(path_ / step_name(step))), seed);
  }

 private:
  fakes::TemporaryFolder folder_;
  WriterChoice choice_;
  std::filesystem::path path_ = folder_.path();
};

}  // namespace understudy::store
