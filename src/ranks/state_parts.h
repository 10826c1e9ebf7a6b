// A rank's state taken apart: what of it has bytes in a shard, and the rest, which is one tree.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ranks/assignment.h"
#include "understudy/value.h"

namespace understudy::ranks {

/// A leaf whose bytes lie in a shard: a tensor, or what a file keeps as a blob.
struct PartLeaf {
  std::string key;    ///< its path; "#2", "#3" appended while that is taken
  Value value;        ///< a chunk's tensor without its kind; anything else as it is
  Dims shape;         ///< of the whole tensor; of a blob its bytes
  Chunk chunk;        ///< that this rank has
  std::size_t first;  ///< the first leaf whose bytes it shares: it goes where that one goes
};

struct StateParts {
  /// The state, with an opaque leaf, whose type name is its key, in place of each of `leaves`.
  Value skeleton;
  std::vector<PartLeaf> leaves;  ///< in walk order
  bool has_own = false;          ///< parts that are this rank's own (per_rank.h)
};

/// Takes `state` apart. Throws Error(invalid), with the path, for a chunk that cannot be.
StateParts split_state(const Value& state);

/// The state of one rank that is alone: chunks that are their whole tensors are tensors.
Value alone(const Value& state);

Outline outline_of(const StateParts& parts);

/// What `rank` writes: a dict of keys and leaves. Leaves that share bytes are together.
Value shard_of(const StateParts& parts, const Assignment& assignment, int rank);

/// A skeleton as text, and back. Throws Error(corrupt) naming `source`.
std::string encode_skeleton(const Value& skeleton);
Value decode_skeleton(std::string_view text, std::string_view source);

/// One skeleton of those of all ranks: the first one's, and of the others the keys of dicts that
/// it does not have, at any depth.
Value merge_skeletons(std::span<const Value> skeletons);

}  // namespace understudy::ranks
