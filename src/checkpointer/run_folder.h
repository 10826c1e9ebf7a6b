// The folder of a run, fixed when it is made.
#pragma once

#include <filesystem>

#include "os/file.h"

namespace understudy {

class Team;

/// Held open, and known by its path from the root: a program that changes its
/// working directory still means the same folder.
class RunFolder {
 public:
  /// Makes the folder when it is missing. Throws Error(invalid) for what is no
  /// path and for a step's own folder, Error(io) for what cannot be made or opened.
  explicit RunFolder(const std::filesystem::path& directory);

  const std::filesystem::path& path() const noexcept { return path_; }
  /// The open folder. Throws Error(io) when its path leads elsewhere by now: what
  /// is read or written there would not be what people see under the path.
  const os::Directory& require() const;
  const os::Directory& directory() const noexcept { return directory_; }

 private:
  std::filesystem::path path_;
  os::Directory directory_;
};

/// The folder of a run; with `team`, it is the same one for all ranks, which is looked at here.
RunFolder open_run(const std::filesystem::path& directory, Team* team);

}  // namespace understudy
