// The files of a step of one or several shards.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "store/reader.h"

namespace understudy::store {

/// Opens all shards of a complete step, by rank, as open_step does for one.
std::vector<ShardReader> open_shards(const StepFolder& step);

/// The shards of a complete step, each opened as open_step does when somebody first needs it. Not
/// thread-safe.
class StepShards {
 public:
  explicit StepShards(const StepFolder& step);

  std::size_t count() const noexcept { return shards_.size(); }
  const ShardReader& at(std::size_t rank);

 private:
  StepFolder step_;
  std::vector<ManifestFile> files_;
  std::vector<std::optional<ShardReader>> shards_;
};

/// The text of the index of a complete step, which has one, as the manifest's digest has it. Throws
/// Error(corrupt) for another one, without memory for what the manifest only claims.
std::string read_index_text(const StepFolder& step);

}  // namespace understudy::store
