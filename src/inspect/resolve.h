// What a path given by an operator stands for.
#pragma once

#include <filesystem>
#include <optional>

#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::inspect {

/// A step's folder or a single safetensors file.
struct Target {
  std::filesystem::path path;
  std::optional<store::StepFolder> step;  ///< absent for a file
};

/// A folder with a manifest, or named like a step, is a step; any other folder
/// is a run and stands for its newest step, damaged or not. Throws
/// Error(not_found) when nothing is there, Error(invalid) for what is neither
/// a folder nor a regular file.
Target resolve(const std::filesystem::path& path);

/// Throws Error(corrupt) when the target is a step that is not complete,
/// naming the newest other complete step beside it.
void require_whole(const Target& target);

/// The safetensors file of a target: the only shard of a complete step, or the
/// file itself.
std::filesystem::path shard_path(const Target& target);

/// Opens the target's file; a step's is checked against its manifest. Throws
/// Error(corrupt) for a damaged step.
store::ShardReader open_target(const Target& target);

/// The target's whole state over a mapping of its file: it needs no memory of
/// its own. Every byte is verified. Pickles come as bytes, never as objects.
Value load_mapped(const Target& target);

}  // namespace understudy::inspect
