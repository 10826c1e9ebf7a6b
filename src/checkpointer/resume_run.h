// Which step of a run is restored or resumed, and what comes before and after.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/worker_pool.h"
#include "os/file.h"
#include "understudy/checkpointer.h"

namespace understudy {

struct ResumeTools {
  const os::Directory& directory;
  bool allow_pickle;
  WorkerPool& readers;
  WorkerPool& copiers;
  /// Gives up the steps above one, durably; returns them.
  std::function<std::vector<std::int64_t>(std::int64_t step)> discard_newer;
  /// Waits until all other ranks are as far, before the state changes. Empty where there are none.
  std::function<void()> all_agree{};
  bool* has_changed = nullptr;  ///< set before the state changes
  int rank = 0;                 ///< of this process
  int count = 1;                ///< of ranks
};

/// As Checkpointer::restore.
Checkpoint restore_run(const os::Directory& directory, const RestoreOptions& how, bool allow_pickle,
                       WorkerPool& readers);

/// As Checkpointer::resume. Nothing when there is no step.
std::optional<ResumeReport> resume_run(const ResumeTools& tools, Value& state,
                                       const ResumeOptions& how);

}  // namespace understudy
