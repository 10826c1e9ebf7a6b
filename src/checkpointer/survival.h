// What a Checkpointer does so that its newest image outlives the process. docs/survival.md has the
// protocol by numbers.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/task_thread.h"
#include "base/ticket.h"
#include "base/worker_pool.h"
#include "checkpointer/run_folder.h"
#include "memory/image.h"
#include "memory/image_file.h"
#include "stage/snapshot.h"
#include "survive/memory_folder.h"
#include "survive/survivors.h"
#include "understudy/checkpointer.h"

namespace understudy {

/// The checksums of an image's blocks, taken when it was sealed; none where it was not.
using SealedChecksums = std::vector<std::uint64_t>;

/// Thread-safe.
class Survival {
 public:
  Survival(const CheckpointerOptions& options, const RunFolder& run);

  /// Makes the folder in memory and locks it; before the run's own lock is taken. Throws why that
  /// is impossible, unless the caller goes on without.
  void open();
  /// Whoever has the run's lock from now on may take what is in memory, if nobody has continued the
  /// run meanwhile; else that is given up. For store::lock_folder.
  void take_over(const std::string& before, const std::string& now);
  /// After the lock was taken by this process, now or earlier: `holder` is what its file says.
  void settle(const std::string& holder);

  /// For the pool of images.
  memory::MakeImageFile make_files();

  /// Has the capture sealed as `step` when it is complete, in the background. What was sealed
  /// before is given up then. The future never throws.
  std::shared_future<SealedChecksums> seal(std::int64_t step,
                                           const std::shared_ptr<Capturing>& capturing,
                                           const std::string& metadata_json,
                                           const std::shared_ptr<TicketState>& ticket);

  /// What lies in memory, the newest first; and why what was there was given up.
  std::vector<survive::Survivor> survivors() const;
  std::vector<ResumeReport::Skipped> given_up() const;
  /// The folder itself. Throws why there is none.
  const os::Directory& directory() const;

  /// The step is on the disk, or damaged: it need not stay in memory beyond this process.
  void let_go(std::int64_t step);
  void discard_above(std::int64_t step);
  /// Removes what is durable or worth nothing. What is not durable stays for the next run.
  void close() noexcept;

 private:
  struct Job;
  void hand_over(const std::string& before, const std::string& now);
  void finish_sealing();
  SealedChecksums seal_now(const Job& job);
  std::shared_ptr<survive::MemoryFolder> folder() const;

  const std::filesystem::path root_;
  const bool goes_on_;
  const RunFolder& run_;
  const survive::World world_;
  WorkerPool hashers_;

  mutable std::mutex mutex_;
  std::shared_ptr<survive::MemoryFolder> folder_;
  std::string why_not_ = "no save has begun";  ///< that there is no folder
  bool is_usable_ = true;
  bool is_settled_ = false;
  bool has_sealed_ = false;
  std::vector<ResumeReport::Skipped> given_up_;
  std::set<std::int64_t> let_go_;
  /// What is sealed, so that nobody fills it again.
  std::vector<memory::Lease> held_;

  TaskThread sealer_{"us-seal"};  // last: its tasks use all of the above
};

}  // namespace understudy
