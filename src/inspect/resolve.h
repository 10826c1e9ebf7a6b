// What a path given by an operator stands for.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ranks/index_text.h"
#include "store/look.h"
#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::inspect {

/// A step's folder or a single safetensors file.
struct Target {
  std::filesystem::path path;
  std::optional<store::StepFolder> step;     ///< absent for a file; held open
  std::shared_ptr<const os::Directory> run;  ///< the folder that the step lies in
};

/// A folder with a manifest, or named like a step, is a step; any other folder
/// is a run and stands for its newest step, damaged or not. Throws
/// Error(not_found) when nothing is there, Error(invalid) for what is neither
/// a folder nor a regular file.
Target resolve(const std::filesystem::path& path);

/// True for a step that a writer has replaced or removed since it was resolved.
bool has_gone(const Target& target);

/// Runs `use` on what the path stands for; should that fail on a step that has gone
/// meanwhile, on what the path stands for then.
template <class Use>
auto with_target(const std::filesystem::path& path, Use use) {
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    const Target target = resolve(path);
    try {
      return use(target);
    } catch (const Error&) {
      if (!has_gone(target)) throw;
    }
  }
  store::fail_restless(path);
}

/// A target with its safetensors files open: they are read to their ends, whatever becomes
/// of their names.
struct OpenTarget {
  Target target;
  std::vector<store::ShardReader> shards;  ///< by rank; one where there is no index
  std::optional<ranks::StepIndex> index;   ///< of a step of several shards

  /// How messages name what is read.
  std::string name() const;
};

/// Opens the files of what the path stands for; a step's are checked against its
/// manifest. Throws Error(corrupt) for a damaged step, naming the newest other
/// complete one beside it.
OpenTarget open_target(const std::filesystem::path& path);

}  // namespace understudy::inspect
