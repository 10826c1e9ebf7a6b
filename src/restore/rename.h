// Saved paths under other names.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "understudy/value.h"

namespace understudy::restore {

/// What becomes of a saved path.
struct Rename {
  /// The first whose text begins the path, or a key in it, is replaced, once.
  std::vector<std::pair<std::string, std::string>> prefixes{};
  /// Called with each leaf's path after that.
  std::function<std::string(const std::string& path)> function{};

  bool is_empty() const { return prefixes.empty() && !function; }
};

/// The saved tree with its leaves where the new paths say. `target` tells how a path is cut into
/// keys; what it does not have becomes one key of text. What moves as a whole stays as it
/// is, down to the types of its keys. Throws Error(invalid) when two leaves get one path,
/// or items of a list would be moved apart.
Value renamed(const Value& saved, const Value& target, const Rename& rename);

/// The rename that would help, when paths which the target lacks and paths which the
/// checkpoint lacks differ by a prefix that wrappers add ("_orig_mod.", "module."): as
/// Python writes it, "{'_orig_mod.': ''}". Else nothing.
struct NamedPath {
  std::string path;
  std::size_t key_begin = 0;  ///< where its last key begins
};
std::string helpful_rename(const std::vector<NamedPath>& missing,
                           const std::vector<NamedPath>& unexpected);

}  // namespace understudy::restore
