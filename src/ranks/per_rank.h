// Parts of a state that are each rank's own: in a step of several ranks a dict, by rank.
#pragma once

#include <span>
#include <string>

#include "understudy/value.h"

namespace understudy::ranks {

/// `state` with {rank: part} in place of each of these parts that it has. Throws Error(invalid)
/// when it is no dict with text keys for them.
Value with_own_parts(const Value& state, std::span<const std::string> names, int rank);

/// What a rank may take of a step.
struct OwnParts {
  int rank = 0;
  int count = 1;                         ///< ranks now
  std::span<const std::string> names{};  ///< that are each rank's own here
  bool strict = true;
  std::span<const std::string> wanted{};  ///< as ResumeOptions::names
};

/// `saved`, of `saved_count` ranks, with the rank's own in place of each of the parts that
/// `saved_names` says to be so. With another number of ranks they cannot be given: Error(invalid),
/// or, if not strict, they are left out. `source` is for messages.
Value own_parts_of(const Value& saved, std::span<const std::string> saved_names, int saved_count,
                   const OwnParts& own, const std::string& source);

}  // namespace understudy::ranks
