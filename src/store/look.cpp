#include "store/look.h"

#include <algorithm>

#include "base/error.h"
#include "understudy/text.h"

namespace understudy::store {

namespace {

// User metadata has no business with more; a damaged size must not make us
// take memory for it.
constexpr std::uint64_t kMaxManifestNbytes = 100'000'000;

/// The names that steps have, ascending by number.
std::vector<std::pair<std::int64_t, std::string>> step_names(const os::Directory& directory) {
  std::vector<std::pair<std::int64_t, std::string>> names;
  std::int64_t step = 0;
  for (std::string& name : directory.list()) {
    if (!parse_step_name(name, step)) continue;
    const auto found = directory.find(name);
    const bool may_be_folder = found && (found->type == os::FileInfo::Type::directory ||
                                         found->type == os::FileInfo::Type::link);
    // One that is gone since it was listed is for the caller to find.
    if (!found || may_be_folder) names.emplace_back(step, std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

std::string find_problem(const os::Directory& folder, const ManifestFile& file) {
  if (!folder.exists(file.name)) return printable(file.name) + " is missing";
  const std::uint64_t nbytes = folder.open_file(file.name).size();
  if (nbytes == file.nbytes) return {};
  return fmt::format("{} has {} bytes where the manifest says {}", printable(file.name), nbytes,
                     file.nbytes);
}

/// The first thing that keeps the folder from being a complete step. Files that
/// somebody put beside ours do not: they are for verify to tell.
std::string find_problem(const os::Directory& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    if (auto problem = find_problem(folder, file); !problem.empty()) return problem;
  }
  return manifest.index ? find_problem(folder, *manifest.index) : "";
}

StepFolder look_into(const os::Directory& folder, const std::filesystem::path& path) {
  StepFolder found;
  found.path = path;
  // Another name than a step's is fine: somebody copied the folder.
  const bool has_step_name = parse_step_name(path.filename().native(), found.step);
  try {
    const std::string file = folder.name() + "/" + std::string(kManifestName);
    Manifest manifest = read_manifest(read_manifest_text(folder), file);
    if (has_step_name && manifest.step != found.step) {
      found.problem = fmt::format("the manifest is that of step {}", manifest.step);
    } else {
      found.step = manifest.step;
      found.problem = find_problem(folder, manifest);
    }
    found.manifest = std::move(manifest);
  } catch (const Error& error) {
    found.problem = error.what();
    // A file that is not there, or is no file, is damage.
    const bool is_damage =
        error.code() == ErrorCode::not_found || error.code() == ErrorCode::invalid;
    found.code = is_damage ? ErrorCode::corrupt : error.code();
  }
  return found;
}

}  // namespace

std::string read_manifest_text(const os::Directory& folder) {
  const os::File file = folder.open_file(std::string(kManifestName));
  const std::uint64_t nbytes = file.size();
  if (nbytes > kMaxManifestNbytes) {
    fail(ErrorCode::corrupt, "{} has {} bytes; no manifest has more than {}", file.name(), nbytes,
         kMaxManifestNbytes);
  }
  std::string text(static_cast<std::size_t>(nbytes), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

StepFolder look_at_step(const os::Directory& directory, const std::string& name) {
  const std::filesystem::path path = directory.path_of(name);
  // A writer may replace or remove the step while we look; then what we saw
  // was no damage.
  for (int turn = 0; turn < kReadTurns; ++turn) {
    auto folder = std::make_shared<const os::Directory>(
        directory.open_directory(name, /*follow_links=*/true));
    StepFolder found = look_into(*folder, path);
    found.folder = std::move(folder);
    if (found.is_complete() || is_still_there(directory, name, *found.folder)) return found;
  }
  fail_restless(path);
}

bool is_still_there(const os::Directory& directory, const std::string& name,
                    const os::Directory& folder) {
  try {
    const os::Directory now = directory.open_directory(name, /*follow_links=*/true);
    return now.info().is_same_file(folder.info());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return false;
  }
}

void fail_restless(const std::filesystem::path& path) {
  fail(ErrorCode::busy, "{} is replaced or removed as often as it is read; {} tries were in vain",
       path.native(), kReadTurns);
}

std::optional<StepFolder> find_newest_step(const os::Directory& directory,
                                           const std::function<bool(std::int64_t)>& is_wanted) {
  for (int turn = 0; turn < kReadTurns; ++turn) {
    auto names = step_names(directory);
    std::erase_if(names, [&](const auto& item) { return !is_wanted(item.first); });
    bool is_gone = false;
    for (; !names.empty() && !is_gone; names.pop_back()) {
      const auto& [step, name] = names.back();
      try {
        return look_at_step(directory, name);
      } catch (const Error& error) {
        if (error.code() != ErrorCode::not_found) {
          return StepFolder{step, directory.path_of(name), {}, error.what(), error.code()};
        }
        // A link that leads nowhere is no step.
        is_gone = !directory.exists(name);
      }
    }
    if (!is_gone) return {};
    // A newer one may have come before this one went.
  }
  fail_restless(directory.name());
}

std::vector<StepFolder> look_at_steps(const os::Directory& directory) {
  for (int turn = 0; turn < kReadTurns; ++turn) {
    std::vector<StepFolder> steps;
    bool is_newest_gone = false;  // as in find_newest_step; older ones are merely retired
    for (const auto& [step, name] : step_names(directory)) {
      try {
        steps.push_back(look_at_step(directory, name));
        steps.back().folder.reset();
      } catch (const Error& error) {
        is_newest_gone = error.code() == ErrorCode::not_found && !directory.exists(name);
        if (error.code() == ErrorCode::not_found) continue;
        steps.push_back({step, directory.path_of(name), {}, error.what(), error.code()});
      }
    }
    if (!is_newest_gone) return steps;
  }
  fail_restless(directory.name());
}

namespace {

struct ParentAndName {
  os::Directory parent;
  std::string name;
};

ParentAndName open_parent(const std::filesystem::path& step_path) {
  // "runs/a/step-7/" is step-7 too.
  const auto path = step_path.filename().empty() ? step_path.parent_path() : step_path;
  if (path.filename().empty()) fail(ErrorCode::invalid, "{} is not a step", step_path.native());
  const auto parent = path.parent_path();
  return {os::Directory::open(parent.empty() ? "." : parent), path.filename().native()};
}

}  // namespace

StepFolder look_at_step(const std::filesystem::path& step_path) {
  const auto [parent, name] = open_parent(step_path);
  return look_at_step(parent, name);
}

ShardReader open_step_at(const std::filesystem::path& step_path) {
  const auto [parent, name] = open_parent(step_path);
  for (int turn = 0; turn < kReadTurns; ++turn) {
    const StepFolder step = look_at_step(parent, name);
    try {
      return open_step(step);
    } catch (const Error&) {
      if (is_still_there(parent, name, *step.folder)) throw;
    }
  }
  fail_restless(step_path);
}

std::vector<StepFolder> look_at_steps(const std::filesystem::path& directory) {
  return look_at_steps(os::Directory::open(directory));
}

}  // namespace understudy::store
