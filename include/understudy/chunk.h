// Chunks: tensors of which each rank has a part.
#pragma once

#include <optional>

#include "understudy/value.h"

namespace understudy {

/// Where a rank's part of a tensor lies in it.
struct ChunkPlace {
  Dims shape;    ///< of the whole tensor
  Dims offsets;  ///< of the part's first element
};

/// A leaf that is a part of a tensor which several ranks have together: the `local` elements, from
/// `place.offsets` on. Their number may be zero. Equal parts on several ranks are replicas.
Value chunk(Tensor local, const ChunkPlace& place);

/// The place of such a leaf; nothing for any other one.
std::optional<ChunkPlace> chunk_of(const Value& leaf);

}  // namespace understudy
