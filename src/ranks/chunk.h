// Chunks: boxes of a tensor that lies on several ranks.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "understudy/tensor.h"

namespace understudy::ranks {

/// Where it begins in each dimension of the whole tensor, and how far it goes. A tensor without
/// dimensions has one chunk, without dimensions too.
struct Chunk {
  Dims offsets;
  Dims sizes;

  auto operator<=>(const Chunk&) const = default;
};

/// The chunk that is all of a tensor.
Chunk whole(const Dims& shape);

/// True when it has no element.
bool is_empty(const Chunk& chunk) noexcept;

/// Elements of a chunk that lies in a tensor whose size is known to be possible.
std::int64_t numel(const Chunk& chunk) noexcept;

/// What two chunks of one tensor have in common; nothing when that is no element.
std::optional<Chunk> overlap(const Chunk& a, const Chunk& b);

/// "[0:4, 2:8]"
std::string to_text(const Chunk& chunk);
/// "[4, 8]"
std::string to_text(const Dims& shape);

/// The bytes of a tensor, or nothing for a shape that none can have: negative sizes, more than
/// kMaxDims dimensions, more than 2^63 - 1 bytes.
std::optional<std::uint64_t> possible_nbytes(const Dims& shape, DType dtype) noexcept;

/// True when `chunk` has the dimensions of `shape` and lies in it.
bool lies_within(const Chunk& chunk, const Dims& shape) noexcept;

/// Why chunks do not make up a tensor.
struct CoverProblem {
  enum class Type {
    overlap,  ///< `first` and `second` share elements
    hole,     ///< `missing` elements are in no chunk
    tangled,  ///< cut up as no program cuts; proving it would take too long
  };
  Type type = Type::hole;
  std::size_t first = 0;
  std::size_t second = 0;
  std::uint64_t missing = 0;
};

/// Nothing when each element of a tensor is in exactly one of `chunks`, all of which lie within
/// `shape`. Empty ones do not count. Takes about n log n steps for what programs cut.
std::optional<CoverProblem> find_cover_problem(const Dims& shape, std::span<const Chunk> chunks);

}  // namespace understudy::ranks
