// The index of a step of several shards, read from its folder.
#pragma once

#include <string>

#include "ranks/index_text.h"
#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::restore {

/// How messages name the index of a step.
std::string index_name(const store::StepFolder& step);

/// Reads and proves the index of a complete step that has one. Throws as read_index_text and
/// read_step_index do.
ranks::StepIndex read_index(const store::StepFolder& step);

/// Throws Error(corrupt), naming `name`, the index, when `value`, which is what the shard has
/// there, is no tensor of the dtype and the shape that the index says.
void require_stored(const ranks::ChunkIndex& index, const ranks::StoredTensor& tensor,
                    const ranks::StoredChunk& stored, const Value& value, const std::string& name);

}  // namespace understudy::restore
