// A rank's state taken apart: what of it has bytes in a shard, and the rest, which is one tree.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/tree.h"
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
};

/// A leaf that a rank writes: its index, and whether zeros are made for it, because nobody has the
/// whole of an empty tensor.
struct ShardLeaf {
  std::size_t leaf = 0;
  bool is_made = false;
};

/// Takes `state` apart. Throws Error(invalid), with the path, for a chunk that cannot be.
StateParts split_state(const Value& state);

/// The state of one rank that is alone: chunks that are their whole tensors are tensors.
Value alone(const Value& state);

Outline outline_of(const StateParts& parts);

/// For each of `leaves` the first one whose bytes it shares, as PartLeaf::first.
std::vector<std::size_t> find_shared(std::span<const PartLeaf> leaves);

/// What `rank` writes, in the order of the leaves. Leaves that share bytes are together.
std::vector<ShardLeaf> shard_leaves(const StateParts& parts, const Assignment& assignment,
                                    int rank);
/// The same as a state: a dict of keys and leaves, each by `take(leaf)`.
Value shard_of(const StateParts& parts, std::span<const ShardLeaf> leaves,
               const std::function<Value(const Value&)>& take);
Value shard_of(const StateParts& parts, const Assignment& assignment, int rank);

/// A skeleton as text, and back. Throws Error(corrupt) naming `source`. `scalars` as in
/// encode_tree.
std::string encode_skeleton(const Value& skeleton, std::vector<format::Span>* scalars = nullptr);
Value decode_skeleton(std::string_view text, std::string_view source);

/// One skeleton of those of all ranks: the first one's, and of the others the keys of dicts that
/// it does not have, at any depth.
Value merge_skeletons(std::span<const Value> skeletons);

}  // namespace understudy::ranks
