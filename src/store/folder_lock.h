// The right to write a folder of steps: store/commit.h tells the rules.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "base/process.h"
#include "os/file.h"
#include "os/lock.h"
#include "store/leftovers.h"

namespace understudy::store {

/// What this process has of one folder; all its FolderLocks share it.
struct HeldFolder {
  explicit HeldFolder(os::Directory folder) : directory(std::move(folder)) {}

  os::Directory directory;
  std::unique_ptr<os::LockFile> lock_file;
  std::string holder;  ///< what we wrote into it
  int holders = 0;     ///< guarded by the registry
  std::mutex committing;
  // Guarded by `committing`.
  bool needs_clearing = true;
  Unremoved uncleared;
  // Temporary folders of commits that have paused.
  std::mutex in_use_mutex;
  std::map<std::string, std::uint64_t> in_use;  // each by the commit that has it
  std::uint64_t next_user = 1;
};

/// One holder's part. In a forked child it does nothing, its destructor
/// included: the child's copy of the lock file was closed by the fork.
class FolderLock {
 public:
  explicit FolderLock(HeldFolder& held) : held_(held) {}
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  const os::Directory& directory() const noexcept { return held_.directory; }

  /// Waits for the other commits of this process, makes sure that the folder
  /// is still ours, and clears what a failure left. Throws Error(closed) in a
  /// forked child, Error(busy) when the lock was lost to another process.
  std::unique_lock<std::mutex> begin_commit();

  /// Throws Error(busy) when the folder has been another's since begin_commit, or
  /// may have been: what this commit made may have been cleared. Call it during a
  /// commit.
  void require_held() const;

  /// Keeps `name`, a temporary folder, from being cleared while nobody commits. Gives the number of
  /// its user, who has it until another one keeps it, or until it is let go.
  std::uint64_t keep(const std::string& name);
  bool has(const std::string& name, std::uint64_t user) const noexcept;
  /// Clears what saves have left of a folder of steps that has another name than a step's. Call it
  /// during a commit.
  void clear_leftovers_of(const std::string& name);
  void let_go(const std::string& name, std::uint64_t user) noexcept;

  /// What the lock file says of this process; empty where there was no space for it.
  std::string holder() const;

  /// What the clearing before this commit could not remove.
  const Unremoved& uncleared() const noexcept { return held_.uncleared; }

  /// Has the next commit clear leftovers first. Call it during a commit.
  void need_clearing() noexcept { held_.needs_clearing = true; }

 private:
  HomeProcess home_;
  HeldFolder& held_;
};

/// What the lock file of a folder says of who has or had the lock last; empty when it says nothing.
std::string last_holder(const os::Directory& directory);

}  // namespace understudy::store
