// The index of a step: where each chunk of each tensor lies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ranks/assignment.h"

namespace understudy::ranks {

struct StoredChunk {
  std::uint32_t file = 0;  ///< index into ChunkIndex::files
  std::string entry;       ///< its name there
  Chunk chunk;
};

struct StoredTensor {
  std::string path;
  DType dtype = DType::u8;
  Dims shape;  ///< of the whole
  std::vector<StoredChunk> chunks;
  bool is_tensor = true;  ///< as TensorOutline::is_tensor
};

struct ChunkIndex {
  std::vector<std::string> files;  ///< a shard for each rank
  std::vector<StoredTensor> tensors;
};

/// The index of what `assignment` has the ranks write into `files`. An entry has the tensor's path
/// as its name, because other readers know chunks by nothing else. So a file has one chunk of a
/// tensor at most: two are Error(invalid).
ChunkIndex make_chunk_index(const Assignment& assignment, std::vector<std::string> files);

/// Throws Error(corrupt), naming `file`, for an index that no step can have: a path twice, an entry
/// twice, a file that is not there, chunks beyond their tensor, overlaps, holes. A reader asks this
/// before it reads: what a missing chunk leaves would pass for data.
void require_whole(const ChunkIndex& index, std::string_view file);

}  // namespace understudy::ranks
