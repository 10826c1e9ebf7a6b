#include "store/discard.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "store/folder_lock.h"
#include "store/leftovers.h"
#include "store/names.h"

namespace understudy::store {

namespace {

/// Steps above `step`, ascending. Folders only, and links, which stand for folders.
std::vector<std::int64_t> steps_above(const os::Directory& directory, std::int64_t step) {
  std::vector<std::int64_t> steps;
  for (const std::string& name : directory.list()) {
    std::int64_t number = 0;
    if (!parse_step_name(name, number) || number <= step) continue;
    const auto found = directory.find(name);
    if (found &&
        (found->type == os::FileInfo::Type::directory || found->type == os::FileInfo::Type::link)) {
      steps.push_back(number);
    }
  }
  std::ranges::sort(steps);
  return steps;
}

}  // namespace

std::vector<std::int64_t> discard_newer(FolderLock& lock, std::int64_t step) {
  const auto turn = lock.begin_commit();
  const os::Directory& directory = lock.directory();
  const auto steps = steps_above(directory, step);
  std::vector<std::string> doomed;
  try {
    // The newest first: at every moment the newest that is left is of the same future.
    for (auto number = steps.rbegin(); number != steps.rend(); ++number) {
      doomed.push_back(marked_name(step_name(*number), kDoomed));
      directory.rename(step_name(*number), doomed.back());
    }
    if (!doomed.empty()) directory.sync();
  } catch (...) {
    lock.need_clearing();
    throw;
  }
  for (const std::string& name : doomed) {
    if (!try_remove_tree(directory, name)) lock.need_clearing();
  }
  return steps;
}

std::optional<std::int64_t> highest_step(const os::Directory& directory) {
  const auto steps = steps_above(directory, -1);
  if (steps.empty()) return {};
  return steps.back();
}

}  // namespace understudy::store
