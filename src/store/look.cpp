#include "store/look.h"

#include <algorithm>

#include "base/error.h"

namespace understudy::store {

namespace {

// User metadata has no business with more; a damaged size must not make us
// take memory for it.
constexpr std::uint64_t kMaxManifestNbytes = 100'000'000;

/// The first thing that keeps the folder from being a complete step. Files that
/// somebody put beside ours do not: they are for verify to tell.
std::string find_problem(const os::Directory& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    if (!folder.exists(file.name)) return fmt::format("{} is missing", file.name);
    const std::uint64_t nbytes = folder.open_file(file.name).size();
    if (nbytes != file.nbytes) {
      return fmt::format("{} has {} bytes where the manifest says {}", file.name, nbytes,
                         file.nbytes);
    }
  }
  return {};
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
  const std::filesystem::path path = std::filesystem::path(directory.name()) / name;
  // A writer may replace or remove the step while we look; then what we saw
  // was no damage. That this happens again and again is not chance.
  constexpr int kTurns = 8;
  for (int turn = 0;; ++turn) {
    const os::Directory folder = directory.open_directory(name, /*follow_links=*/true);
    StepFolder found = look_into(folder, path);
    if (found.is_complete() || turn == kTurns) return found;
    const os::Directory now = directory.open_directory(name, /*follow_links=*/true);
    if (now.info().is_same_file(folder.info())) return found;
  }
}

std::vector<StepFolder> look_at_steps(const os::Directory& directory) {
  std::vector<StepFolder> steps;
  std::int64_t step = 0;
  for (const std::string& name : directory.list()) {
    if (!parse_step_name(name, step)) continue;
    const auto found = directory.find(name);
    const bool may_be_folder = found && (found->type == os::FileInfo::Type::directory ||
                                         found->type == os::FileInfo::Type::link);
    if (!may_be_folder) continue;
    try {
      steps.push_back(look_at_step(directory, name));
    } catch (const Error& error) {
      if (error.code() == ErrorCode::not_found) continue;  // removed since it was listed
      steps.push_back(
          {step, std::filesystem::path(directory.name()) / name, {}, error.what(), error.code()});
    }
  }
  std::ranges::sort(steps, {}, &StepFolder::step);
  return steps;
}

StepFolder look_at_step(const std::filesystem::path& step_path) {
  // "runs/a/step-7/" is step-7 too.
  const auto path = step_path.filename().empty() ? step_path.parent_path() : step_path;
  if (path.filename().empty()) fail(ErrorCode::invalid, "{} is not a step", step_path.native());
  const auto parent = path.parent_path();
  StepFolder found =
      look_at_step(os::Directory::open(parent.empty() ? "." : parent), path.filename().native());
  found.path = path;
  return found;
}

std::vector<StepFolder> look_at_steps(const std::filesystem::path& directory) {
  return look_at_steps(os::Directory::open(directory));
}

}  // namespace understudy::store
