// The assignment: who writes what. Every rank computes it by itself and gets the same.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ranks/outline.h"

namespace understudy::ranks {

/// A chunk that is written once, whoever has it.
struct PlannedChunk {
  Chunk chunk;
  std::uint64_t nbytes = 0;
  std::vector<int> holders;  ///< ranks that have it, ascending
  int writer = 0;            ///< one of them
};

struct PlannedTensor {
  std::string path;
  DType dtype = DType::u8;
  Dims shape;                        ///< of the whole
  std::vector<PlannedChunk> chunks;  ///< ascending by offsets; together the whole tensor
  std::string shares_with{};         ///< as TensorOutline::shares_with
  std::vector<int> ranks{};          ///< that have the path, ascending
  bool is_tensor = true;             ///< as TensorOutline::is_tensor
};

struct Assignment {
  /// In the order of rank 0, then what only later ranks have, in theirs.
  std::vector<PlannedTensor> tensors;
  std::vector<std::uint64_t> nbytes;  ///< that each rank writes
};

/// Who writes what of `outlines`, by rank. Equal chunks on several ranks are replicas; one of those
/// that have it writes it, so that all write about the same number of bytes: the largest first,
/// each by whoever has the least to write until then. Empty chunks are not written, except that an
/// empty tensor has one chunk, the whole.
///
/// A tensor that shares its bytes goes where the one goes that it shares them with, and counts for
/// nothing. Where it is cut, all ranks that have elements of it must say the same: else it is one
/// by itself.
///
/// Throws Error(invalid), with the path and the ranks, when the outlines do not fit together: a
/// path twice on one rank, another dtype or shape on another rank, chunks beyond the tensor, chunks
/// that overlap without being equal, elements that nobody has, sizes that cannot be.
Assignment assign(std::span<const Outline> outlines);

}  // namespace understudy::ranks
