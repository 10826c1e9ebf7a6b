// What a Snapshot shares among its handles.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/task_thread.h"
#include "base/ticket.h"
#include "base/worker_pool.h"
#include "format/layout.h"
#include "memory/image.h"
#include "understudy/stager.h"

namespace understudy {

class SnapshotState {
 public:
  /// A complete capture. What may be read without the image.
  struct Contents {
    memory::Lease image;
    std::shared_ptr<const format::Layout> layout;
    std::string tree;
    std::vector<Value> opaques;
  };

  explicit SnapshotState(Contents contents) : contents_(std::move(contents)) {}

  /// A copy that keeps the lease. Throws Error(closed) after close, and in a
  /// forked child.
  Contents contents() const;
  /// Ends the lease for all handles.
  void close();

 private:
  HomeProcess home_;
  mutable std::mutex mutex_;
  Contents contents_;
};

/// A Stager's insides, for the checkpointer, which needs more than a Ticket.
class StagerState {
 public:
  explicit StagerState(const StagerOptions& options);
  ~StagerState();

  /// Captures into an image and returns it complete. `ticket` gets its figures.
  Snapshot capture(const Value& state, TicketState& ticket);
  /// Plans for `state`, then makes the images ready in the background, which
  /// `ticket` tells of and `result` gets the bytes of.
  void prewarm(const Value& state, std::shared_ptr<TicketState> ticket,
               std::shared_ptr<std::optional<std::uint64_t>> result);
  WorkerPool& workers() { return workers_; }
  const StagerOptions& options() const { return options_; }
  void close();

 private:
  struct Plan;

  const Plan& plan_for(const Value& state, std::string& tree, std::vector<Value>& opaques);

  const StagerOptions options_;
  HomeProcess home_;
  std::mutex mutex_;
  memory::ImagePool pool_;
  WorkerPool workers_;
  std::unique_ptr<Plan> plan_;
  std::uint64_t next_layout_id_ = 1;    // 0 is fresh memory
  TaskThread prewarmer_{"us-prewarm"};  // last: its tasks use the pool
};

/// What every header of ours says beside the tree: `format: pt`, then the
/// caller's own.
std::vector<std::pair<std::string, std::string>> header_metadata(const FileMetadata& metadata);

/// Throws Error(unsupported) for what this version or machine cannot do.
void check_options(const StagerOptions& options);

}  // namespace understudy
