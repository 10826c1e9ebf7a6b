// What a Snapshot shares among its handles.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/process.h"
#include "base/task_thread.h"
#include "base/ticket.h"
#include "base/waiting.h"
#include "base/worker_pool.h"
#include "format/layout.h"
#include "memory/image.h"
#include "stage/last_plan.h"
#include "stage/overlapped.h"
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

  /// The state whose image lies at `image`, over memory that `owner` keeps.
  static Value state_over(const Contents& contents, std::byte* image,
                          const std::shared_ptr<void>& owner);

 private:
  HomeProcess home_;
  mutable std::mutex mutex_;
  Contents contents_;
};

/// A capture that was begun, and may be under way.
class Capturing {
 public:
  explicit Capturing(Snapshot snapshot) : snapshot_(std::move(snapshot)) {}

  /// Waits until it is complete, and gives it away; throws when it has failed.
  Snapshot take();
  /// Waits as well, and leaves it for `take`; throws when it has failed or was taken.
  SnapshotState::Contents wait_contents();
  void end(std::exception_ptr failure);

 private:
  std::optional<Snapshot> snapshot_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool is_ended_ = false;
  std::exception_ptr failure_;
};

/// A Stager's insides, for the checkpointer, which needs more than a Ticket.
class StagerState {
 public:
  /// With `make_file` images are files in a folder in memory.
  explicit StagerState(const StagerOptions& options, memory::MakeImageFile make_file = {});
  ~StagerState();

  /// Called once, by any thread, when a capture has ended.
  using OnEnd = std::function<void(Capturing&, std::exception_ptr failure)>;

  /// Begins to capture into an image. `ticket` gets its figures, and is marked as
  /// captured (but neither done nor failed) before `on_end` is called, which may
  /// be before this returns. With `reports_progress` the ticket's bytes done are
  /// those of the capture.
  std::shared_ptr<Capturing> capture(const Value& state, std::uint64_t number,
                                     const std::shared_ptr<TicketState>& ticket,
                                     bool reports_progress, OnEnd on_end);
  /// Null when that was not the last state; then nothing was done.
  std::shared_ptr<Capturing> capture(const Again& again, const std::shared_ptr<TicketState>& ticket,
                                     bool reports_progress, OnEnd on_end);
  /// Plans for `state`, then makes the images ready in the background, which
  /// `ticket` tells of and `result` gets the bytes of.
  void prewarm(const Value& state, std::shared_ptr<TicketState> ticket,
               std::shared_ptr<std::optional<std::uint64_t>> result);
  WorkerPool& workers() { return workers_; }
  const StagerOptions& options() const { return options_; }
  void close();

 private:
  struct Order;

  template <class Plan>
  std::shared_ptr<Capturing> capture_by(const Plan& plan, const Order& order);
  std::shared_ptr<Capturing> begin(const Order& order, const stage::StatePlan& plan,
                                   memory::ImagePool::Slot slot);

  const StagerOptions options_;
  HomeProcess home_;
  AwakeMutex mutex_;  // never held while somebody else is waited for
  memory::ImagePool pool_;
  WorkerPool workers_;
  stage::Overlapped overlapped_;
  stage::LastPlan last_plan_;
  TaskThread prewarmer_{"us-prewarm"};  // last: its tasks use the pool
};

/// What every header of ours says beside the tree: `format: pt`, then the
/// caller's own.
std::vector<std::pair<std::string, std::string>> header_metadata(const FileMetadata& metadata);

/// Throws Error(unsupported) for what this version or machine cannot do.
void check_options(const StagerOptions& options);

}  // namespace understudy
