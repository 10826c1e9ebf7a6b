// What a writer that died, or a commit that failed, left in a folder of steps.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <set>
#include <string>

#include "os/file.h"

namespace understudy::store {

/// What could not be removed.
struct Unremoved {
  int count = 0;
  std::string first;  ///< the first failure's sentence

  void add(const std::exception& failure) noexcept;
  void add(const Unremoved& others) noexcept;
  /// "" when all was removed.
  std::string sentence() const;
};

/// Puts back steps that an overwrite had set aside, then removes temporary
/// folders of ours, but for those of `in_use`. The caller holds the folder's lock and no other
/// commit is under way. What could not be removed is to be tried again later.
Unremoved clear_leftovers(const os::Directory& directory, const std::set<std::string>& in_use = {});
/// The same for a step whose folder has another name than a step's, and for no other.
Unremoved clear_leftovers_of(const os::Directory& directory, const std::string& name,
                             const std::set<std::string>& in_use = {});

/// Removes a folder of ours; false when that failed, which is told to `failures`.
bool try_remove_tree(const os::Directory& directory, const std::string& name,
                     Unremoved* failures = nullptr) noexcept;

}  // namespace understudy::store
