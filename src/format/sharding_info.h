// What the shards of several ranks say for PyTorch's reader of safetensors checkpoints
// (HuggingFaceStorageReader), which asks every file where its entries lie in their tensors.
#pragma once

#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "format/safetensors.h"
#include "understudy/tensor.h"

namespace understudy::format {

inline constexpr std::string_view kShardingInfoKey = "DCP_SHARDING_INFO";
inline constexpr std::string_view kShardingVersionKey = "DCP_VERSION";

/// Where chunks begin in their tensors, in elements, by the names of their entries.
using ChunkOffsets = std::map<std::string, Dims>;

/// Appends both keys. That reader wants each of `entries` named; those that are not in `offsets`
/// are no chunks. The text depends on the structure of the state alone.
void add_sharding_info(std::vector<std::pair<std::string, std::string>>& metadata,
                       std::span<const Entry> entries, const ChunkOffsets& offsets);

}  // namespace understudy::format
