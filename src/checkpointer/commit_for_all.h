// The commit of a step by all ranks: it is there for all, or for none. docs/ranks.md explains each
// number and what each failure leaves.
//
// Rank 0 leads: it alone has the folder's lock, and what it says counts. The others follow: each
// writes its shard, says so, and is told the outcome. Nobody asks anybody else, so no two ranks can
// see the same exchange differently.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "os/file.h"
#include "ranks/exchange.h"
#include "store/commit.h"
#include "store/source.h"
#include "store/writer.h"

namespace understudy {

/// One save, as all ranks know it.
struct SaveOfAll {
  std::int64_t step = 0;
  std::uint64_t number = 0;  ///< of the save, ascending; the same on all ranks
};

/// A save whose place an urgent one took: Error(busy), which nobody needs to see.
class DroppedSave : public Error {
 public:
  DroppedSave(std::int64_t step, std::int64_t urgent_step);
  explicit DroppedSave(const std::string& what) : Error(ErrorCode::busy, what) {}
};

/// What one rank writes.
struct RankPart {
  /// Gives the shard. May wait for a capture, and throw its failure.
  std::function<std::unique_ptr<store::ShardSource>()> shard;
  /// What this rank adds to the index, in bytes that only `make_index` reads.
  std::string index;
};

/// Makes the text of the index from what the ranks added, by rank.
using MakeIndex = std::function<std::string(const std::vector<std::string>& parts)>;

/// How rank 0 commits.
struct LeadOptions {
  store::CommitOptions commit;
  std::string metadata_json = "null";
  MakeIndex make_index;
};

class CommitForAll {
 public:
  /// `peers` must outlive it. `timeout` is what rank 0 waits for the others once it has written its
  /// own shard; they wait longer for rank 0, which may wait for one of them.
  CommitForAll(Peers& peers, std::chrono::duration<double> timeout)
      : peers_(peers), exchanger_(peers, timeout), patient_(peers, 2 * timeout) {}

  /// Rank 0's part. When it returns the step is durable, with the shards of all. Throws the one
  /// Error that all get: "rank 3: " and its failure. Then nothing is left of the step.
  store::Committed lead(const SaveOfAll& save, store::FolderLock& lock, const RankPart& part,
                        store::Writer& writer, const LeadOptions& options,
                        std::atomic<std::uint64_t>* done = nullptr) const;

  /// Another rank's part, with its own handle of the run's folder. Throws what rank 0 has thrown;
  /// or, when rank 0 does not say, an Error that tells whether the step may be there.
  store::Committed follow(const SaveOfAll& save, const os::Directory& run, const RankPart& part,
                          store::Writer& writer, std::atomic<std::uint64_t>* done = nullptr) const;

  /// Rank 0's word on a save that it has dropped, for those whose turn it has been already.
  void tell_dropped(const SaveOfAll& save, const DroppedSave& why) const noexcept;

 private:
  std::string write(const os::Directory& folder, const RankPart& part, store::Writer& writer,
                    std::atomic<std::uint64_t>* done) const;
  std::vector<std::string> gather(const SaveOfAll& save, const os::Directory& folder,
                                  const RankPart& part, store::Writer& writer,
                                  std::atomic<std::uint64_t>* done) const;
  os::Directory begin_following(const SaveOfAll& save, const os::Directory& run) const;

  Peers& peers_;
  ranks::Exchanger exchanger_;
  ranks::Exchanger patient_;
};

}  // namespace understudy
