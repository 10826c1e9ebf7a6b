// A run's folder into which several ranks save, and what must hold in it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "checkpointer/commit_for_all.h"
#include "fakes/shard.h"
#include "fakes/temporary_folder.h"
#include "store/names.h"
#include "store/reader.h"
#include "store/verify.h"

namespace understudy {

class RanksFolder {
 public:
  explicit RanksFolder(int ranks) : ranks_(ranks), folder_(fakes::memory_folder()) {}

  const std::filesystem::path& path() const { return folder_.path(); }

  /// The source of one rank's shard of a seed.
  static std::unique_ptr<store::ShardSource> shard(unsigned seed, int rank) {
    return std::make_unique<fakes::Shard>(fakes::small_shard(seed + static_cast<unsigned>(rank)));
  }

  static std::string index_of(const std::vector<std::string>& parts) {
    std::string text = "index of";
    for (const auto& part : parts) text += " " + part;
    return text;
  }

  struct How {
    std::int64_t step = 3;
    unsigned seed = 90;
    std::uint64_t number = 1;
    store::CommitOptions commit = {};
    std::chrono::duration<double> timeout = std::chrono::seconds(600);
    std::function<void(int rank)> before_shard = [](int) {};
  };

  /// One rank's part of one save.
  store::Committed save(Peers& peers, const How& how) const {
    const CommitForAll commit(peers, how.timeout);
    const RankPart part{[&, rank = peers.rank()] {
                          how.before_shard(rank);
                          return shard(how.seed, rank);
                        },
                        std::to_string(peers.rank())};
    store::Writer writer({.threads = 1});
    const SaveOfAll save{how.step, how.number};
    if (peers.rank() > 0) return commit.follow(save, os::Directory::open(path()), part, writer);
    const auto lock = store::lock_folder(path());
    return commit.lead(save, *lock, part, writer, {how.commit, "null", index_of});
  }

  /// The names in the folder but the lock's, sorted.
  std::vector<std::string> names() const {
    auto names = os::Directory::open(path()).list();
    std::erase(names, ".understudy.lock");
    return names;
  }

  /// Whole to the last byte, with the shards of all ranks, which are those of `seed`.
  void expect_step(std::int64_t step, unsigned seed) const {
    SCOPED_TRACE("step " + std::to_string(step));
    const auto found = store::look_at_step(path() / store::step_name(step));
    ASSERT_TRUE(found.is_complete()) << found.problem;
    const auto check = store::verify_step(found.path);
    EXPECT_TRUE(check.damage.empty()) << check.damage[0].what;
    EXPECT_EQ(found.manifest->world_size, ranks_);
    ASSERT_EQ(found.manifest->files.size(), static_cast<std::size_t>(ranks_));
    EXPECT_TRUE(has_bytes(step, seed)) << "another seed's bytes";
  }

  /// Every shard of the step is that of `seed`.
  bool has_bytes(std::int64_t step, unsigned seed) const {
    for (int rank = 0; rank < ranks_; ++rank) {
      const store::ShardReader reader(path() / store::step_name(step) /
                                      store::shard_name(rank, ranks_));
      std::vector<std::byte> bytes(reader.block_nbytes(0));
      reader.read_block(0, bytes);
      const auto wanted = fakes::small_shard(seed + static_cast<unsigned>(rank));
      if (!std::ranges::equal(bytes, wanted.data())) return false;
    }
    return true;
  }

 private:
  const int ranks_;
  fakes::TemporaryFolder folder_;
};

}  // namespace understudy
