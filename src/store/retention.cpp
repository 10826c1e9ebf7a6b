#include "store/retention.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/error.h"
#include "format/metadata.h"
#include "store/look.h"
#include "store/names.h"

namespace understudy::store {

namespace {

/// The best `count`, the first the best. Of equal ones the newer is better.
std::vector<std::int64_t> best_of(const Keep::Best& best, std::span<const RatedStep> steps) {
  std::vector<RatedStep> rated;
  for (const RatedStep& step : steps) {
    if (step.metric) rated.push_back(step);
  }
  std::ranges::sort(rated, [&](const RatedStep& a, const RatedStep& b) {
    if (*a.metric != *b.metric) {
      return best.order == Keep::Order::min ? *a.metric < *b.metric : *a.metric > *b.metric;
    }
    return a.step > b.step;
  });
  std::vector<std::int64_t> result;
  for (const RatedStep& step : rated) {
    if (result.size() == static_cast<std::size_t>(best.count)) break;
    result.push_back(step.step);
  }
  return result;
}

/// The complete steps up to `committed`. Higher ones are those of a future that a
/// rollback left behind: whoever saved this one wants it and what led to it, so
/// they neither count nor go.
std::vector<RatedStep> rated_steps(const os::Directory& directory, const Keep& keep,
                                   std::int64_t committed) {
  std::vector<RatedStep> steps;
  for (const StepFolder& folder : look_at_steps(directory)) {
    if (!folder.is_complete() || folder.step > committed) continue;
    steps.push_back({folder.step, {}});
    if (!keep.best) continue;
    steps.back().metric = metric_of(folder.manifest->metadata_json, keep.best->key);
  }
  return steps;
}

}  // namespace

void require_valid(const Keep& keep) {
  if (keep.last < 1) fail(ErrorCode::invalid, "keep must be at least 1, not {}", keep.last);
  if (keep.every < 0) {
    fail(ErrorCode::invalid, "keep's every must be at least 1, or 0 for none, not {}", keep.every);
  }
  if (!keep.best) return;
  if (keep.best->key.empty()) {
    fail(ErrorCode::invalid, "keep's best needs the name of a number in the metadata");
  }
  if (keep.best->count < 1) {
    fail(ErrorCode::invalid, "keep's best must be at least 1 step, not {}", keep.best->count);
  }
}

std::vector<std::int64_t> steps_to_keep(const Keep& keep, std::span<const RatedStep> steps) {
  std::set<std::int64_t> kept;
  const auto last = std::min(steps.size(), static_cast<std::size_t>(std::max(keep.last, 1)));
  for (const RatedStep& step : steps.last(last)) kept.insert(step.step);
  for (const RatedStep& step : steps) {
    if (keep.every > 0 && step.step % keep.every == 0) kept.insert(step.step);
  }
  if (keep.best) {
    for (const std::int64_t step : best_of(*keep.best, steps)) kept.insert(step);
  }
  return {kept.begin(), kept.end()};
}

std::optional<double> metric_of(std::string_view metadata_json, const std::string& key) {
  const Value metadata = metadata_from_json(metadata_json);
  if (metadata.type() != Value::Type::dict) return {};
  for (const auto& [name, value] : metadata.pairs()) {
    if (name.as_text() != key || value.kind() != Value::Kind::plain) continue;
    if (value.type() == Value::Type::integer) return static_cast<double>(value.as_integer());
    if (value.type() == Value::Type::floating && !std::isnan(value.as_floating())) {
      return value.as_floating();
    }
  }
  return {};
}

Unremoved apply_retention(const os::Directory& directory, const Keep& keep,
                          std::int64_t committed) noexcept {
  Unremoved failures;
  try {
    const auto steps = rated_steps(directory, keep, committed);
    const auto kept = steps_to_keep(keep, steps);
    std::vector<std::string> doomed;
    for (const RatedStep& rated : steps) {
      if (rated.step == committed || std::ranges::binary_search(kept, rated.step)) continue;
      try {
        std::string name = marked_name(step_name(rated.step), kDoomed);
        directory.rename(step_name(rated.step), name);
        doomed.push_back(std::move(name));
      } catch (const Error& failure) {
        failures.add(failure);
      }
    }
    // The names must be on disk before the bytes behind them go (clear_leftovers).
    if (!doomed.empty()) directory.sync();
    for (const std::string& name : doomed) try_remove_tree(directory, name, &failures);
  } catch (const std::exception& failure) {
    failures.add(failure);
  }
  return failures;
}

}  // namespace understudy::store
