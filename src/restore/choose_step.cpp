#include "restore/choose_step.h"

#include <fmt/format.h>

#include "base/error.h"

namespace understudy {
namespace {

// Looks at manifests only: reading whole steps to word a message would take as long as a resume.
std::string newest_other(const std::filesystem::path& directory, std::int64_t damaged) {
  auto folders = store::look_at_steps(directory);
  std::erase_if(folders, [&](const auto& f) { return f.step == damaged || !f.is_complete(); });
  if (folders.empty()) return "no other step is complete";
  return fmt::format("the newest other complete step is {} (its bytes were not verified)",
                     folders.back().step);
}

}  // namespace

DamagedStep::DamagedStep(const std::filesystem::path& directory, std::int64_t step,
                         std::string reason)
    : Error(ErrorCode::corrupt,
            fmt::format("step {} in {} is damaged: {}; {}", step, directory.string(), reason,
                        newest_other(directory, step))),
      step_(step),
      reason_(std::move(reason)) {}

std::optional<store::StepFolder> choose_step(const std::filesystem::path& directory,
                                             std::optional<std::int64_t> step,
                                             std::optional<std::int64_t> below) {
  auto folders = store::look_at_steps(directory);
  std::erase_if(folders, [&](const auto& f) {
    return (step && f.step != *step) || (below && f.step >= *below);
  });
  if (folders.empty()) {
    if (step) fail(ErrorCode::not_found, "there is no step {} in {}", *step, directory.string());
    return {};
  }
  auto& chosen = folders.back();
  if (!chosen.is_complete()) {
    // What this build cannot read is not damaged.
    if (chosen.code != ErrorCode::corrupt) fail(chosen.code, "{}", chosen.problem);
    throw DamagedStep(directory, chosen.step, chosen.problem);
  }
  return std::move(chosen);
}

}  // namespace understudy
