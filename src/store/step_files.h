// The files of a step of one or several shards.
#pragma once

#include <string>
#include <vector>

#include "store/reader.h"

namespace understudy::store {

/// Opens all shards of a complete step, by rank, as open_step does for one.
std::vector<ShardReader> open_shards(const StepFolder& step);

/// The text of the index of a complete step, which has one, as the manifest's digest has it. Throws
/// Error(corrupt).
std::string read_index_text(const StepFolder& step);

}  // namespace understudy::store
