// Rolling back: the steps after one are given up.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "os/file.h"
#include "store/commit.h"

namespace understudy::store {

/// Gives up every step above `step`, complete or damaged: renames them away, the
/// newest first, syncs the folder, and then removes them. Once it has returned no
/// crash brings one of them back. Returns their numbers, ascending. Throws
/// Error(io) when one cannot be renamed or the folder cannot be synced: then those
/// above that one may be gone.
std::vector<std::int64_t> discard_newer(FolderLock& lock, std::int64_t step);

/// The highest number that a step's folder has, complete or not. Reads names only.
std::optional<std::int64_t> highest_step(const os::Directory& directory);

}  // namespace understudy::store
