// index.json: the index of a step of several shards, as text. docs/format.md has every member.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ranks/chunk_index.h"

namespace understudy::ranks {

struct StepIndex {
  ChunkIndex chunks;
  std::string skeleton;  ///< of the state, as encode_skeleton writes it
  /// Keys of the state under which there is a dict with a part for each rank, by its number.
  std::vector<std::string> per_rank{};
};

/// JSON, a line for each tensor. The names of files are the manifest's.
std::string write_step_index(const StepIndex& index);

/// Reads what write_step_index wrote and proves that every tensor is there whole. `files` are the
/// manifest's. Throws Error(corrupt), or Error(unsupported) for another major version, naming
/// `file`.
StepIndex read_step_index(std::string_view text, std::vector<std::string> files,
                          std::string_view file);

}  // namespace understudy::ranks
