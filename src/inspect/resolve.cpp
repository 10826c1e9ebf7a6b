#include "inspect/resolve.h"

#include <system_error>

#include "base/error.h"
#include "base/worker_pool.h"
#include "restore/choose_step.h"
#include "restore/load.h"

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
  const auto real = fs::canonical(path, error);
  return !error && store::parse_step_name(real.filename().string(), step) ? real : path;
}

}  // namespace

Target resolve(const fs::path& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) {
    if (status.type() == fs::file_type::not_found) {
      fail(ErrorCode::not_found, "there is nothing at '{}'", path.string());
    }
    fail(ErrorCode::io, "cannot look at '{}': {}", path.string(), error.message());
  }
  if (fs::is_regular_file(status)) return {path, {}};
  if (!fs::is_directory(status)) {
    fail(ErrorCode::invalid, "'{}' is neither a folder nor a regular file", path.string());
  }
  if (is_step(path)) {
    auto step = store::look_at_step(step_path(path));
    return {step.path, std::move(step)};
  }
  auto steps = store::look_at_steps(path);
  if (steps.empty())
    fail(ErrorCode::not_found,
         "the folder '{}' has no step (of a folder of other files, name one file)", path.string());
  return {steps.back().path, std::move(steps.back())};
}

void require_whole(const Target& target) {
  if (!target.step || target.step->is_complete()) return;
  throw DamagedStep(fs::absolute(target.path).parent_path(), target.step->step,
                    target.step->problem);
}

fs::path shard_path(const Target& target) {
  if (!target.step) return target.path;
  require_whole(target);
  const auto& files = target.step->manifest->files;
  if (files.size() != 1) {
    fail(ErrorCode::unsupported, "step '{}' has {} files; this version reads steps of one",
         target.path.string(), files.size());
  }
  return target.path / files.front().name;
}

store::ShardReader open_target(const Target& target) {
  if (!target.step) return store::ShardReader(target.path);
  shard_path(target);
  return store::open_step(*target.step);
}

Value load_mapped(const Target& target) {
  const auto shard = open_target(target);
  WorkerPool readers("us-read", restore::kReadThreads);
  LoadFileOptions options;
  options.mmap = true;
  options.allow_pickle = true;
  return restore::load(shard, options, readers).state;
}

}  // namespace understudy::inspect
