#include "restore/choose_step.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "store/verify.h"

namespace understudy {
namespace {

// Every byte of the candidates is read: "whole" is a promise.
std::string newest_whole(const std::filesystem::path& directory, std::int64_t damaged) {
  auto folders = store::look_at_steps(directory);
  std::reverse(folders.begin(), folders.end());
  for (const auto& folder : folders) {
    if (folder.step == damaged || !folder.is_complete()) continue;
    try {
      if (store::verify_step(folder.path).damage.empty()) {
        return fmt::format("the newest whole step is {}", folder.step);
      }
    } catch (const Error&) {  // what cannot be read is not known to be whole
    }
  }
  return "no other step is whole";
}

}  // namespace

DamagedStep::DamagedStep(const std::filesystem::path& directory, std::int64_t step,
                         std::string reason)
    : Error(ErrorCode::corrupt,
            fmt::format("step {} in {} is damaged: {}; {}", step, directory.string(), reason,
                        newest_whole(directory, step))),
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
