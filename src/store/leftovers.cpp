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

/// True when the folder is the step that has the name `base`, complete. Not being able to look is
/// an Error: what cannot be read today may be the only copy.
bool is_whole_copy(const os::Directory& directory, const std::string& name,
                   const std::string& base) {
  const StepFolder found = look_at_step(directory, name);
  std::int64_t step = 0;
  const bool is_step = parse_step_name(base, step);
  if (!found.is_complete() && found.code != ErrorCode::corrupt) {
    fail(found.code, "{} may be the only copy of {}, and cannot be read: {}", found.path.native(),
         is_step ? format_text("step {}", step) : base, found.problem);
  }
  return found.is_complete() && (!is_step || found.manifest->step == step);
}

/// True for a step that an overwrite left between its two renames: gone from
/// its name, whole under another.
bool is_orphan(const os::Directory& directory, const std::string& name, const std::string& base) {
  return !directory.exists(base) && is_whole_copy(directory, name, base);
}

/// A step set aside is only dispensable when the one that took its place is whole.
bool is_dispensable(const os::Directory& directory, const std::string& base) {
  if (!directory.exists(base)) return true;
  try {
    return look_at_step(directory, base).is_complete();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return false;  // a link to nowhere
  }
}

/// Completes the replacement of a step that cannot be renamed. False when the
/// successor is torn: then it is a leftover like any other.
bool put_successor_in_place(const os::Directory& directory, const std::string& name,
                            const std::string& base) {
  if (!is_whole_copy(directory, name, base)) return false;
  if (directory.exists(base)) directory.remove_tree(base);
  directory.rename(name, base);
  return true;
}

/// A name that a save leaves for as long as it lasts, taken apart.
struct Leftover {
  std::string name;
  std::string base;  ///< the step's own
  std::string_view mark;
};

/// Those of steps; or, with `only`, of the folder of that name.
std::vector<Leftover> leftovers_of(const os::Directory& directory,
                                   const std::set<std::string>& in_use, const std::string& only) {
  std::vector<Leftover> leftovers;
  for (const std::string& name : directory.list()) {
    if (in_use.contains(name)) continue;
    for (const auto mark : {kTemporary, kSetAside, kSuccessor, kDoomed}) {
      std::string base = only;
      if (only.empty()) {
        const auto step = step_of_marked_name(name, mark);
        const bool is_meeting = mark == kTemporary && is_marked_name(name, kMeeting, mark);
        if (!step && !is_meeting) continue;
        base = step ? step_name(*step) : std::string(kMeeting);
      } else if (!is_marked_name(name, only, mark)) {
        continue;
      }
      // We make folders only; whatever else has such a name is somebody's.
      const auto found = directory.find(name);
      if (found && found->type == os::FileInfo::Type::directory) {
        leftovers.push_back({name, std::move(base), mark});
      }
      break;
    }
  }
  return leftovers;
}

Unremoved clear(const os::Directory& directory, std::vector<Leftover> leftovers) {
  Unremoved failures;
  if (leftovers.empty()) return failures;
  std::erase_if(leftovers, [&](const Leftover& leftover) {
    const auto& [name, base, mark] = leftover;
    if (mark == kSuccessor) return put_successor_in_place(directory, name, base);
    if (mark != kSetAside) return false;
    if (!is_orphan(directory, name, base)) return !is_dispensable(directory, base);
    directory.rename(name, base);
    return true;
  });
  // The names must be on disk before the bytes behind them go: a power cut
  // must not bring back the name of a folder that is half removed.
  directory.sync();
  for (const auto& leftover : leftovers) try_remove_tree(directory, leftover.name, &failures);
  return failures;
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

Unremoved clear_leftovers(const os::Directory& directory, const std::set<std::string>& in_use) {
  return clear(directory, leftovers_of(directory, in_use, ""));
}

Unremoved clear_leftovers_of(const os::Directory& directory, const std::string& name,
                             const std::set<std::string>& in_use) {
  return clear(directory, leftovers_of(directory, in_use, name));
}

}  // namespace understudy::store
