// Which steps stay after a save, and the removal of the others.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "os/file.h"
#include "store/leftovers.h"
#include "understudy/options.h"

namespace understudy::store {

/// Throws Error(invalid) for a rule that cannot be.
void require_valid(const Keep& keep);

/// A complete step, as the rule sees it.
struct RatedStep {
  std::int64_t step = 0;
  /// What the manifest has under the rule's key, if that is a number and no NaN.
  std::optional<double> metric{};
};

/// Those of `steps` (ascending) that stay, ascending. The last one always does.
std::vector<std::int64_t> steps_to_keep(const Keep& keep, std::span<const RatedStep> steps);

/// The number at `key` of a manifest's metadata; nothing when there is none or it is NaN.
std::optional<double> metric_of(std::string_view metadata_json, const std::string& key);

/// Applies the rule to the complete steps up to `committed`, which stays; damaged
/// ones stay, too. One that cannot be removed does not keep the others.
Unremoved apply_retention(const os::Directory& directory, const Keep& keep,
                          std::int64_t committed) noexcept;

}  // namespace understudy::store
