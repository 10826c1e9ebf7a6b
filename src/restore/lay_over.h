// The leaves of a saved state, each as the target needs it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ranks/chunk.h"
#include "understudy/chunk.h"
#include "understudy/value.h"

namespace understudy::restore {

/// What the target has where a saved leaf lies.
struct Counterpart {
  /// What it has at that path; null for nothing, or for something around it.
  const Value* target = nullptr;
  /// False when the comparison will not look at the leaf.
  bool is_wanted = true;
  /// It goes to an object, which says by itself what it wants.
  bool is_of_object = false;
};

/// What objects of a target want of their parts (PartLoadable::wanted).
using Wants = std::map<const Loadable*, Value>;

/// Asks the objects of `target`. `stand_in` gives a leaf of `saved` as one that has its shape.
Wants wants_of(const Value& target, const Value& saved,
               const std::function<Value(const Value& leaf)>& stand_in);

/// Makes a leaf of what stands for it.
using MakeLeaf = std::function<Value(const Value& saved, const Counterpart& counterpart)>;

/// `saved` with what `make_leaf` says in the places of its leaves. `names` as in MatchRules. The
/// comparison (match.h) of the whole looks at no leaf that is said here to be unwanted.
Value lay_over(const Value& target, const Value& saved, const std::vector<std::string>& names,
               const Wants& wants, const MakeLeaf& make_leaf);

/// A part of a tensor as the leaf for `counterpart`: an object is told where it lies.
Value part_for(const Counterpart& counterpart, Tensor part, const ChunkPlace& place);

/// The chunk of a tensor of that shape that `target` is; nothing when it is none.
std::optional<ranks::Chunk> chunk_wanted(const Value* target, const Dims& shape);

}  // namespace understudy::restore
