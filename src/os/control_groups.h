// What the control groups of a process allow it, by both versions of their files.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace understudy::os {

struct GroupLimits {
  /// Bytes that can still be had.
  std::uint64_t memory = std::numeric_limits<std::uint64_t>::max();
  /// Processors by time, at least one.
  int cores = std::numeric_limits<int>::max();
};

/// The least of all groups from the process's own up to the root. `membership` is a text like
/// /proc/self/cgroup; `mount` is where the groups lie as folders.
GroupLimits limits_of_groups(const std::string& membership, const std::string& mount);

/// Of this process.
GroupLimits limits_of_own_groups();

}  // namespace understudy::os
