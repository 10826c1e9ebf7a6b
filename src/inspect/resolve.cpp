#include "inspect/resolve.h"

#include <system_error>

#include "base/error.h"
#include "os/path.h"
#include "restore/choose_step.h"
#include "restore/step_index.h"
#include "store/foreign.h"
#include "store/step_files.h"

namespace understudy::inspect {
namespace {

namespace fs = std::filesystem;

/// The name that the folder has itself, whatever way the path goes to it
/// ("step-3/", ".", a link).
std::string own_name(const fs::path& path) {
  std::error_code error;
  const auto real = fs::canonical(path, error);
  return (error ? path : real).filename().string();
}

bool is_step(const fs::path& path) {
  std::error_code error;
  std::int64_t step = 0;
  return fs::exists(path / store::kManifestName, error) ||
         store::parse_step_name(own_name(path), step);
}

/// `path` in a form that ends in the step's own name, where it has one.
fs::path step_path(const fs::path& path) {
  std::error_code error;
  std::int64_t step = 0;
  if (store::parse_step_name(path.filename().string(), step)) return path;
  // "runs/best/" is best too.
  if (path.filename().empty()) return step_path(path.parent_path());
  const auto real = fs::canonical(path, error);
  return !error && store::parse_step_name(real.filename().string(), step) ? real : path;
}

}  // namespace

Target resolve(const fs::path& path) {
  os::require_path(path);
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) {
    if (status.type() == fs::file_type::not_found) {
      fail(ErrorCode::not_found, "there is nothing at '{}'", path.string());
    }
    fail(ErrorCode::io, "cannot look at '{}': {}", path.string(), error.message());
  }
  if (fs::is_regular_file(status)) return {path, {}, {}};
  if (!fs::is_directory(status)) {
    fail(ErrorCode::invalid, "'{}' is neither a folder nor a regular file", path.string());
  }
  if (is_step(path)) {
    const auto at = step_path(path);
    const auto parent = at.parent_path();
    auto run = std::make_shared<os::Directory>(os::Directory::open(parent.empty() ? "." : parent));
    auto step = store::look_at_step(*run, at.filename());
    return {at, std::move(step), std::move(run)};
  }
  auto run = std::make_shared<os::Directory>(os::Directory::open(path));
  auto step = store::find_newest_step(*run, [](std::int64_t) { return true; });
  if (!step) {
    const auto other = store::name_checkpoint_in(*run);
    fail(ErrorCode::not_found,
         "the folder '{}' has no step{} (of a folder of other files, name one file)", path.string(),
         other.empty() ? "" : "; what lies there is " + other);
  }
  return {step->path, std::move(step), std::move(run)};
}

bool has_gone(const Target& target) {
  return target.step && target.step->folder &&
         !store::is_still_there(*target.run, target.path.filename(), *target.step->folder);
}

std::string OpenTarget::name() const {
  return index ? restore::index_name(*target.step) : shards.front().name();
}

OpenTarget open_target(const fs::path& path) {
  return with_target(path, [](const Target& target) {
    OpenTarget open{target, {}, {}};
    if (!target.step) {
      open.shards.emplace_back(target.path);
      return open;
    }
    if (!target.step->is_complete()) {
      throw DamagedStep(*target.run, target.step->step, target.step->problem);
    }
    if (target.step->manifest->index) open.index = restore::read_index(*target.step);
    open.shards = store::open_shards(*target.step);
    return open;
  });
}

}  // namespace understudy::inspect
