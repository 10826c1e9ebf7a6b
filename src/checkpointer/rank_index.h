// What the ranks add to the index, and the index that rank 0 makes of it.
#pragma once

#include <string>
#include <vector>

#include "format/sharding_info.h"
#include "ranks/assignment.h"
#include "ranks/state_parts.h"

namespace understudy {

/// A rank's addition: its skeleton, where it has paths that rank 0 lacks or parts of its own; rank
/// 0's always.
std::string index_part(const ranks::StateParts& parts, const ranks::Assignment& assignment,
                       int rank);

/// Where the chunks that a rank writes begin in their tensors.
format::ChunkOffsets chunk_offsets(const ranks::Assignment& assignment, int rank);

/// The index's text of what all have added, by rank.
std::string index_of_all(const ranks::Assignment& assignment,
                         const std::vector<std::string>& additions,
                         std::vector<std::string> per_rank = {});

}  // namespace understudy
