#include "store/leftovers.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "store/look.h"
#include "store/names.h"

namespace understudy::store {

namespace {

/// True when the folder is that step, complete. Not being able to look is an
/// Error: what cannot be read today may be the only copy.
bool is_whole_copy(const os::Directory& directory, const std::string& name, std::int64_t step) {
  const StepFolder found = look_at_step(directory, name);
  if (!found.is_complete() && found.code != ErrorCode::corrupt) {
    fail(found.code, "{} may be the only copy of step {}, and cannot be read: {}",
         found.path.native(), step, found.problem);
  }
  return found.is_complete() && found.manifest->step == step;
}

/// True for a step that an overwrite left between its two renames: gone from
/// its name, whole under another.
bool is_orphan(const os::Directory& directory, const std::string& name, std::int64_t step) {
  return !directory.exists(step_name(step)) && is_whole_copy(directory, name, step);
}

/// A step set aside is only dispensable when the one that took its place is whole.
bool is_dispensable(const os::Directory& directory, std::int64_t step) {
  if (!directory.exists(step_name(step))) return true;
  try {
    return look_at_step(directory, step_name(step)).is_complete();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return false;  // a link to nowhere
  }
}

/// Completes the replacement of a step that cannot be renamed. False when the
/// successor is torn: then it is a leftover like any other.
bool put_successor_in_place(const os::Directory& directory, const std::string& name,
                            std::int64_t step) {
  if (!is_whole_copy(directory, name, step)) return false;
  if (directory.exists(step_name(step))) directory.remove_tree(step_name(step));
  directory.rename(name, step_name(step));
  return true;
}

std::vector<std::string> leftovers_of(const os::Directory& directory) {
  std::vector<std::string> names;
  for (const std::string& name : directory.list()) {
    const bool is_ours =
        step_of_marked_name(name, kTemporary) || step_of_marked_name(name, kSetAside) ||
        step_of_marked_name(name, kSuccessor) || step_of_marked_name(name, kDoomed) ||
        is_marked_name(name, kMeeting, kTemporary);
    const auto found = is_ours ? directory.find(name) : std::nullopt;
    // We make folders only; whatever else has such a name is somebody's.
    if (found && found->type == os::FileInfo::Type::directory) names.push_back(name);
  }
  return names;
}

}  // namespace

void Unremoved::add(const std::exception& failure) noexcept {
  try {
    if (count++ == 0) first = failure.what();
  } catch (const std::exception&) {
    first.clear();  // no memory for the sentence; the number is known
  }
}

void Unremoved::add(const Unremoved& others) noexcept {
  if (others.count == 0) return;
  add(std::runtime_error(others.first));
  count += others.count - 1;
}

std::string Unremoved::sentence() const {
  if (count == 0) return {};
  if (count == 1) return fmt::format("1 old folder could not be removed: {}", first);
  return fmt::format("{} old folders could not be removed; the first: {}", count, first);
}

bool try_remove_tree(const os::Directory& directory, const std::string& name,
                     Unremoved* failures) noexcept {
  try {
    directory.remove_tree(name);
    return true;
  } catch (const std::exception& failure) {
    if (failures) failures->add(failure);
    return false;
  }
}

Unremoved clear_leftovers(const os::Directory& directory) {
  Unremoved failures;
  std::vector<std::string> names = leftovers_of(directory);
  if (names.empty()) return failures;
  std::erase_if(names, [&](const std::string& name) {
    if (const auto step = step_of_marked_name(name, kSuccessor)) {
      return put_successor_in_place(directory, name, *step);
    }
    const auto step = step_of_marked_name(name, kSetAside);
    if (!step) return false;
    if (!is_orphan(directory, name, *step)) return !is_dispensable(directory, *step);
    directory.rename(name, step_name(*step));
    return true;
  });
  // The names must be on disk before the bytes behind them go: a power cut
  // must not bring back the name of a folder that is half removed.
  directory.sync();
  for (const std::string& name : names) try_remove_tree(directory, name, &failures);
  return failures;
}

}  // namespace understudy::store
