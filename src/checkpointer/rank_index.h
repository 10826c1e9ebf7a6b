// What the ranks add to the index, and the index that rank 0 makes of it.
#pragma once

#include <string>
#include <vector>

#include "format/sharding_info.h"
#include "ranks/assignment.h"

namespace understudy {

/// Whether a rank adds its skeleton: rank 0 does, and who has paths that rank 0 lacks. (Who has
/// parts of its own does, too.)
bool adds_to_index(const ranks::Assignment& assignment, int rank);

/// Where the chunks that a rank writes begin in their tensors.
format::ChunkOffsets chunk_offsets(const ranks::Assignment& assignment, int rank);

/// The index's text of what all have added, by rank.
std::string index_of_all(const ranks::Assignment& assignment,
                         const std::vector<std::string>& additions,
                         std::vector<std::string> per_rank = {});

}  // namespace understudy
