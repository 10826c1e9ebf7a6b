// Two kinds of lock on a file, for two questions.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "os/file.h"

namespace understudy::os {

/// A file whose lock keeps other processes away. The lock (fcntl, of an open file
/// description) belongs to this object alone: no other descriptor of the file that
/// this process closes can drop it, and forked children close theirs at once, so
/// that it ends with the process. Children that were not made by fork() keep it
/// until they end or call exec.
class LockFile {
 public:
  /// Opens `name`, making it when it is missing. Does not follow links.
  LockFile(const Directory& directory, const std::string& name);
  ~LockFile();  ///< unlocks; not to be called in a forked child
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// Takes the whole file; does no harm when it is taken already. Returns nothing
  /// when taken, else the holder's process (0 when the kernel cannot say, as for
  /// locks of this kind).
  std::optional<pid_t> lock();

  FileInfo info() const { return file_.info(); }
  const std::string& name() const noexcept { return file_.name(); }

  /// What the file says: at most 200 bytes.
  std::string text() const;
  /// Only for who has the lock. False when there is no space for it: then the file
  /// is empty.
  bool set_text(const std::string& text);

 private:
  File file_;
};

enum class FileLock { taken, held, unsupported };

/// Takes the whole file for this open file and its duplicates (flock): two
/// opens in one process exclude each other. Gone when the last one is closed.
FileLock lock_open_file(const File& file);

}  // namespace understudy::os
