// The right to write a folder of steps: store/commit.h tells the rules.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "base/process.h"
#include "os/file.h"

namespace understudy::store {

/// What this process has of one folder; all its FolderLocks share it.
struct HeldFolder {
  HeldFolder(os::Directory folder, os::File locked)
      : directory(std::move(folder)), lock_file(std::move(locked)) {}

  os::Directory directory;
  os::File lock_file;
  int holders = 0;  ///< guarded by the registry
  std::mutex committing;
  bool needs_clearing = true;  ///< guarded by `committing`
};

/// One holder's part. In a forked child it does nothing, its destructor
/// included: closing the lock file there could drop a lock of the child.
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

  /// Has the next commit clear leftovers first. Call it during a commit.
  void need_clearing() noexcept { held_.needs_clearing = true; }

 private:
  HomeProcess home_;
  HeldFolder& held_;
};

}  // namespace understudy::store
