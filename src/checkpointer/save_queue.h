// Saves that wait for their turn to be persisted.
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <filesystem>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/ticket.h"
#include "checkpointer/sources.h"
#include "checkpointer/survival.h"
#include "checkpointer/team.h"
#include "stage/snapshot.h"
#include "store/commit.h"
#include "store/reader.h"

namespace understudy {

/// A step in memory that was resumed from, held open until it is on the disk.
struct Survivor {
  store::StepFolder step;
  store::ShardReader shard;
};

struct SaveJob {
  std::shared_ptr<TicketState> ticket;
  std::shared_ptr<std::optional<std::filesystem::path>> result;
  std::shared_ptr<Capturing> capturing;  ///< that may be under way
  std::int64_t step = 0;
  std::string metadata;
  bool overwrite = false;
  bool urgent = false;
  std::vector<std::string> per_rank{};  ///< as in SaveOptions
  std::shared_ptr<store::FolderLock> lock;
  std::unique_ptr<store::Unlimited> unlimited;   ///< of an urgent one, until it has ended
  std::optional<TeamSave> team{};                ///< with other ranks
  std::shared_ptr<const ShardChunks> chunks{};   ///< then: where this rank's lie in their tensors
  std::string index{};                           ///< and what it adds to the index
  std::shared_future<SealedChecksums> sealed{};  ///< where images survive
  std::shared_ptr<const Survivor> survivor{};    ///< in place of a capture: read from memory
  std::exception_ptr capture_failure{};          ///< then nothing was captured; the others are told
  /// The urgent step in whose favour rank 0 dropped it; it keeps its turn, to tell the others.
  std::optional<std::int64_t> dropped_for{};
};

/// Urgent ones first, else in the order of the calls; with other ranks always in that order, which
/// is the same on all. Thread-safe.
class SaveQueue {
 public:
  explicit SaveQueue(int images) : images_(images) {}

  /// True while a save of `step` waits or is being persisted.
  bool has(std::int64_t step) const;
  /// False while every image belongs to a save that waits or is being persisted.
  bool has_free_image() const;

  void push(const std::shared_ptr<SaveJob>& job);
  /// Takes one back that has not begun; false when it has.
  bool withdraw(const SaveJob& job) noexcept;
  /// The next to be persisted; null when none waits.
  std::shared_ptr<SaveJob> begin_next();
  /// Ends what `begin_next` gave: well, or with `failure`.
  void end(SaveJob& job, std::exception_ptr failure);
  /// Drops those that wait and are not urgent, in favour of `urgent_step`. What
  /// is being persisted goes on: it will soon be done, and is the newest that a
  /// crash would leave.
  void drop_waiting(std::int64_t urgent_step);
  /// The same on rank 0, for all: the numbers of those that it dropped.
  std::vector<std::uint64_t> drop_for_all(std::int64_t urgent_step);
  /// On another rank: drops those with these numbers, of those that wait.
  void drop_numbers(const std::vector<std::uint64_t>& numbers, std::int64_t urgent_step);

 private:
  void release(SaveJob& job);
  void end_dropped(SaveJob& job, std::int64_t urgent_step);

  const int images_;
  mutable std::mutex mutex_;
  std::multiset<std::int64_t> steps_;  ///< of jobs that have an image
  std::deque<std::shared_ptr<SaveJob>> waiting_;
};

}  // namespace understudy
