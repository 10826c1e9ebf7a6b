// What a writer that died, or a commit that failed, left in a folder of steps.
#pragma once

#include <cstdint>
#include <optional>

#include "os/file.h"

namespace understudy::store {

/// Puts back steps that an overwrite had set aside, then removes temporary
/// folders of ours. The caller holds the folder's lock and no commit is under
/// way. Returns false when something could not be removed: try again later.
bool clear_leftovers(const os::Directory& directory);

/// Keeps the newest `keep` complete steps (at least one) and `committed`;
/// damaged ones stay. Returns false when something could not be removed.
bool apply_retention(const os::Directory& directory, int keep, std::int64_t committed) noexcept;

/// Removes a folder of ours; false when that failed.
bool try_remove_tree(const os::Directory& directory, const std::string& name) noexcept;

}  // namespace understudy::store
