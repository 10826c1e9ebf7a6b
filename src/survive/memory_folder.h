// The folder in memory that a run's images lie in, and its lock.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "base/process.h"
#include "memory/image_file.h"
#include "os/file.h"
#include "store/folder_lock.h"

namespace understudy::survive {

/// `root`/understudy-USER/run-HASH, where the hash is of what tells the run's folder from any other
/// (os::identity_of). Both folders are this user's alone.
std::filesystem::path memory_path(const std::filesystem::path& root, const os::Directory& run);

/// The same folder, open, if it is there. Throws Error(invalid) for a root that is not in memory
/// and for what is not a folder of this user alone, and Error(io).
std::optional<os::Directory> find_memory(const std::filesystem::path& root,
                                         const os::Directory& run);

/// Made and locked, for as long as somebody in this process has it. It has the folders of sealed
/// steps (survivors.h), images that are filled, and the names of those whom it may be taken from.
class MemoryFolder : public std::enable_shared_from_this<MemoryFolder> {
 public:
  /// This process has one object for each folder. Removes images that were not sealed. Throws as
  /// find_memory; Error(busy) when another process has it.
  static std::shared_ptr<MemoryFolder> open(const std::filesystem::path& root,
                                            const os::Directory& run);
  /// Removes the folder if no step is left in it. Not in a forked child.
  ~MemoryFolder();

  const os::Directory& directory() const noexcept { return lock_->directory(); }
  store::FolderLock& lock() noexcept { return *lock_; }

  /// A file of `nbytes`, with all its space reserved. Throws Error(no_space).
  memory::ImageFile make_file(std::uint64_t nbytes);

 private:
  struct Registry;
  static Registry& registry();

  MemoryFolder(std::filesystem::path path, std::shared_ptr<store::FolderLock> lock);
  void clear_images() const noexcept;
  void remove_if_empty() const noexcept;

  const std::filesystem::path path_;
  const std::shared_ptr<store::FolderLock> lock_;
};

}  // namespace understudy::survive
