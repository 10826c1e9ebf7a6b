#include "restore/choose_step.h"

#include <fmt/format.h>

#include "base/error.h"
#include "store/look.h"

namespace understudy {
namespace {

// Looks at manifests only: reading whole steps to word a message would take as long as a resume.
std::string newest_other(const os::Directory& directory, std::int64_t damaged) {
  auto folders = store::look_at_steps(directory);
  std::erase_if(folders, [&](const auto& f) { return f.step == damaged || !f.is_complete(); });
  if (folders.empty()) return "no other step is complete";
  return fmt::format("the newest other complete step is {} (its bytes were not verified)",
                     folders.back().step);
}

}  // namespace

DamagedStep::DamagedStep(const os::Directory& directory, std::int64_t step, std::string reason)
    : Error(ErrorCode::corrupt,
            fmt::format("step {} in {} is damaged: {}; {}", step, directory.name(), reason,
                        newest_other(directory, step))),
      step_(step),
      reason_(std::move(reason)) {}

std::optional<OpenStep> open_chosen_step(const os::Directory& directory,
                                         std::optional<std::int64_t> step,
                                         std::optional<std::int64_t> below) {
  const auto is_wanted = [&](std::int64_t number) {
    return (!step || number == *step) && (!below || number < *below);
  };
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    auto found = store::find_newest_step(directory, is_wanted);
    if (!found && step) {
      fail(ErrorCode::not_found, "there is no step {} in {}", *step, directory.name());
    }
    if (!found) return {};
    // What this build cannot read is not damaged.
    if (!found->is_complete() && found->code != ErrorCode::corrupt) {
      fail(found->code, "{}", found->problem);
    }
    if (!found->is_complete()) throw DamagedStep(directory, found->step, found->problem);
    try {
      store::StepShards shards(*found);
      if (!found->manifest->index) shards.at(0);
      return OpenStep{std::move(*found), std::move(shards)};
    } catch (const Error& e) {
      if (!store::is_still_there(directory, found->path.filename(), *found->folder)) continue;
      if (e.code() == ErrorCode::corrupt) throw DamagedStep(directory, found->step, e.what());
      throw;
    }
  }
  store::fail_restless(directory.name());
}

}  // namespace understudy
