// Two kinds of lock on a file, for two questions.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "os/file.h"

namespace understudy::os {

/// Opens `name` for locking, making it when it is missing. Does not follow links.
File open_lock_file(const Directory& directory, const std::string& name);

/// Takes the whole file for this process (fcntl). Forked children do not have
/// the lock. It is lost when the process closes any descriptor of the file;
/// taking it again when it is already held does no harm. Returns nothing when
/// taken, else the holder's process (0 when the kernel cannot say).
std::optional<pid_t> lock_for_process(const File& file);

enum class FileLock { taken, held, unsupported };

/// Takes the whole file for this open file and its duplicates (flock): two
/// opens in one process exclude each other. Gone when the last one is closed.
FileLock lock_open_file(const File& file);

}  // namespace understudy::os
