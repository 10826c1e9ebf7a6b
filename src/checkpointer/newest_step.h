// The newest step of a run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>

#include "os/file.h"
#include "store/discard.h"

namespace understudy {

/// Thread-safe. Right for as long as nobody else may write to the folder.
class NewestStep {
 public:
  void look(const os::Directory& directory) {
    const auto highest = store::highest_step(directory).value_or(-1);
    std::lock_guard lock(mutex_);
    highest_ = highest;
  }
  void note_committed(std::int64_t step) {
    std::lock_guard lock(mutex_);
    highest_ = std::max(highest_, step);
  }
  /// The newest step, if it is higher.
  std::optional<std::int64_t> above(std::int64_t step) const {
    std::lock_guard lock(mutex_);
    return highest_ > step ? std::optional(highest_) : std::nullopt;
  }

 private:
  mutable std::mutex mutex_;
  std::int64_t highest_ = -1;  // complete or not
};

}  // namespace understudy
