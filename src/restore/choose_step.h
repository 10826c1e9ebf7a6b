// Which step to read, and what to say when it is damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "os/file.h"
#include "store/reader.h"
#include "store/step_files.h"
#include "understudy/error.h"

namespace understudy {

/// Error(corrupt) about one step, with the newest other complete one named. Reads no data.
class DamagedStep : public Error {
 public:
  DamagedStep(const os::Directory& directory, std::int64_t step, std::string reason);
  std::int64_t step() const noexcept { return step_; }
  const std::string& reason() const noexcept { return reason_; }

 private:
  std::int64_t step_;
  std::string reason_;
};

/// A step that is held open. Of one file, it is read to its end whatever becomes of its name; of
/// several, each is opened when it is needed, and whoever then finds it gone looks at
/// `is_still_there`.
struct OpenStep {
  store::StepFolder folder;
  store::StepShards shards;
};

/// Opens the step asked for, or the newest (below `below`, when given); when a
/// writer removes or replaces it meanwhile, what is the newest then. Nothing when
/// there is none at all. Throws Error(not_found) for a step that was asked for
/// and is not there, DamagedStep for one that is not complete.
std::optional<OpenStep> open_chosen_step(const os::Directory& directory,
                                         std::optional<std::int64_t> step,
                                         std::optional<std::int64_t> below = {});

/// Runs `read`, turning its Error(corrupt) into DamagedStep.
template <class Read>
auto naming_another(const os::Directory& directory, std::int64_t step, Read&& read) {
  try {
    return read();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt) throw;
    throw DamagedStep(directory, step, e.what());
  }
}

}  // namespace understudy
