// What a reader needs: which parts of which stored chunks, and where their bytes lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ranks/chunk.h"

namespace understudy::ranks {

/// What of one stored chunk goes into a chunk that is wanted.
struct Part {
  std::size_t stored = 0;  ///< index of the stored chunk
  Chunk chunk;             ///< the elements that both have
};

/// The parts that make up `wanted`, by stored chunk. Of stored chunks that cover the tensor (see
/// find_cover_problem) they fill it exactly.
std::vector<Part> parts_of(const Chunk& wanted, std::span<const Chunk> stored);

/// A run of bytes.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t nbytes = 0;

  bool operator==(const ByteRange&) const = default;
};

/// Where the elements of `part` lie in the bytes of `chunk`, which is dense and in C order:
/// ascending runs, as long as they can be, `base` added. Those that are at most `max_gap` bytes
/// apart are one: whoever reads whole blocks has the bytes between them anyway, and needs no run
/// for each row. `part` lies in `chunk`.
std::vector<ByteRange> ranges_of(const Chunk& chunk, const Chunk& part, std::uint64_t item_nbytes,
                                 std::uint64_t base = 0, std::uint64_t max_gap = 0);

/// The part of `tensor` that holds `part`, as a view. `tensor` holds the elements of `chunk`.
Tensor view_of(const Tensor& tensor, const Chunk& chunk, const Chunk& part);

/// Copies what two tensors, which hold the elements of `from_chunk` and of `to_chunk`, have in
/// common. Any strides.
void copy_part(const Tensor& from, const Chunk& from_chunk, const Tensor& to, const Chunk& to_chunk,
               const Chunk& part);

}  // namespace understudy::ranks
