// Outlines: what of a state one rank has, without its bytes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ranks/chunk.h"

namespace understudy::ranks {

/// A rank's part of one tensor.
struct TensorOutline {
  std::string path;  ///< the same on all ranks; one path is one tensor
  DType dtype = DType::u8;
  Dims shape;                 ///< of the whole tensor
  std::vector<Chunk> chunks;  ///< that this rank has; all of the tensor where it is not cut
  /// The path of the tensor whose bytes it shares: both are written together. Empty: its own.
  std::string shares_with{};
  /// False for what others know as a value that has bytes: a long leaf, a NumPy array.
  bool is_tensor = true;

  bool operator==(const TensorOutline&) const = default;
};

struct Outline {
  std::vector<TensorOutline> tensors;

  bool operator==(const Outline&) const = default;
};

/// As bytes: equal outlines give equal bytes.
std::string encode_outline(const Outline& outline);

/// Reads what `rank` has sent. Throws Error(corrupt) for what encode_outline does not write. What
/// the outline says may be impossible all the same: assign() looks at that.
Outline decode_outline(std::string_view bytes, int rank);

/// 32 hex digits that tell whether an outline, encoded, is the last one's.
std::string outline_hash(std::string_view encoded);

}  // namespace understudy::ranks
