// Probes: what this machine lets a program do. Each one tries the thing itself,
// undoes it, and never throws for what it does not find.
#pragma once

#include <filesystem>
#include <string>

namespace understudy::os {

struct Found {
  bool is_available = false;
  std::string detail;  ///< what was found, or why not
};

Found probe_io_uring();

/// Writes 4096 bytes past the page cache in `directory`, to a file that is
/// removed at once.
Found probe_direct_io(const std::filesystem::path& directory);

/// More than one core to copy with.
Found probe_cores();

/// Memory that can still be had: at least one image's worth.
Found probe_memory();

}  // namespace understudy::os
