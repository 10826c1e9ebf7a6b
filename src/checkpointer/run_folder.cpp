#include "checkpointer/run_folder.h"

#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "checkpointer/team.h"
#include "os/path.h"
#include "store/foreign.h"
#include "store/leftovers.h"
#include "store/names.h"

namespace understudy {

namespace {

std::filesystem::path checked(const std::filesystem::path& directory) {
  if (directory.empty()) fail(ErrorCode::invalid, "a checkpointer needs a directory");
  os::require_path(directory);
  return os::absolute(directory);
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& directory)
    : path_(checked(directory)), directory_(os::Directory::open_or_make(path_)) {
  if (store::is_step_itself(directory_)) {
    fail(ErrorCode::invalid, "{} is a step, not a folder of steps; give the folder {}",
         path_.native(), path_.parent_path().native());
  }
}

RunFolder open_run(const std::filesystem::path& directory, Team* team) {
  if (team == nullptr) return RunFolder(directory);
  std::optional<RunFolder> folder;
  std::string left;
  const auto remove = [&]() noexcept {
    if (!left.empty()) store::try_remove_tree(folder->directory(), left);
  };
  try {
    team->meet([&]() -> Team::Sight {
      folder.emplace(directory);
      const auto leave = [&] {
        left = store::marked_name(store::kMeeting, store::kTemporary);
        try {
          folder->directory().make_directory(left);
        } catch (const Error&) {
          left.clear();  // it may only be read: the first save would tell
        }
        return left;
      };
      return {folder->path().native(), leave,
              [&](const std::string& name) { return folder->directory().exists(name); }};
    });
  } catch (...) {
    remove();
    throw;
  }
  remove();
  return std::move(*folder);
}

const os::Directory& RunFolder::require() const {
  const auto now = os::find_file(path_);
  if (!now || !now->is_same_file(directory_.info())) {
    fail(ErrorCode::io,
         "the folder {} is not the one it was when the checkpointer was made: it was renamed, "
         "removed or replaced; put it back, or make a new checkpointer",
         path_.native());
  }
  return directory_;
}

}  // namespace understudy
