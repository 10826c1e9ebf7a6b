// One step on its way in: what of the commit protocol (docs/commit.md) comes before and after the
// shards are written, by the one process that holds the folder's lock.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "os/file.h"
#include "store/commit.h"
#include "store/folder_lock.h"
#include "store/leftovers.h"
#include "store/manifest.h"

namespace understudy::store {

/// As manifests have it: UTC, ISO 8601, seconds.
std::string utc_now();

/// Where a step goes.
struct StepPlace {
  explicit StepPlace(std::int64_t step) : name(step_name(step)), step(step) {}
  StepPlace(std::string name, std::int64_t step, std::string mark)
      : name(std::move(name)), step(step), mark(std::move(mark)), takes_empty(true) {}

  std::string name;  ///< of its folder
  std::int64_t step;
  std::string mark{};        ///< eight hex digits for the name of the temporary folder; or random
  bool takes_empty = false;  ///< an empty folder of the name is as good as none
};

/// The places of a step's folder, and the way back. What goes wrong before step 7 is done is
/// undone, so that a failed save has not happened.
class Attempt {
 public:
  Attempt(const os::Directory& directory, const StepPlace& place);

  const std::string& temporary_name() const noexcept { return temporary_; }
  os::Directory make_temporary() const;
  /// Step 6.
  void put_in_place(bool may_replace);
  /// Removes the step that was replaced.
  Unremoved remove_replaced() const noexcept;
  /// Takes the steps back, the last first. True when nothing is left behind.
  bool undo() noexcept;

 private:
  enum class Place {
    nowhere,
    renamed,
    exchanged,
    old_is_aside,
    both_renamed,
    successor,
    old_is_removed  ///< no way back: the next clearing completes it
  };

  void replace();
  void replace_by_removal();

  const os::Directory& directory_;
  const std::string name_;
  const bool takes_empty_;
  const std::string temporary_;
  const std::string aside_;
  const std::string successor_;
  Place place_ = Place::nowhere;
};

/// One commit: `open`, then the shards are written, then `make_durable`, then `retire`. Whoever
/// gets an exception before `make_durable` is done calls `undo`. While the shards are written, it
/// may `pause`.
class StepCommit {
 public:
  /// Waits for the other commits of this process. Throws Error(invalid) when the step exists and
  /// may not be replaced.
  StepCommit(FolderLock& lock, std::int64_t step, const CommitOptions& options)
      : StepCommit(lock, StepPlace(step), options) {}
  /// The same anywhere in the folder. A paused commit of this process with the same name and mark
  /// has lost its place then: whoever waited for it has begun anew.
  StepCommit(FolderLock& lock, const StepPlace& place, const CommitOptions& options);
  ~StepCommit();

  /// Makes the temporary folder. Shards are written into it: steps 1 to 3.
  const os::Directory& open();
  const os::Directory& folder() const { return *folder_; }
  const std::string& temporary_name() const noexcept { return attempt_.temporary_name(); }

  /// Lets other commits of this process go on, for as long as this one writes or waits.
  void pause();
  /// Takes the turn again, on any thread. The temporary folder has stayed; Error(busy) when it is
  /// another commit's by now.
  void go_on();

  /// Steps 4 to 7. The manifest's step and time are filled in here. False where the file system
  /// cannot sync folders.
  bool make_durable(Manifest manifest);
  /// The same for several ranks: `index` is the text of the index, which the manifest then names.
  bool make_durable(Manifest manifest, const std::string& index);
  /// Step 8. Gives what could not be removed, in words.
  std::string retire();
  /// The same as `undo`, at any time, and without looking at the lock.
  void abandon() noexcept;
  /// Removes what is there of the step. Throws Error(busy) when the lock was lost: files that
  /// vanished are only the symptom then.
  void undo();

 private:
  FolderLock& lock_;
  const std::int64_t step_;
  const CommitOptions options_;
  std::unique_lock<std::mutex> turn_;
  std::uint64_t user_ = 0;  ///< of the temporary folder; 0: nobody else can want it
  const os::Directory& directory_;
  Attempt attempt_;
  std::optional<os::Directory> folder_;
};

}  // namespace understudy::store
