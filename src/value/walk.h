// The one tree walker.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "understudy/value.h"

namespace understudy::value {

/// The way from the root to a node, as a linked list on the stack.
struct Path {
  const Path* parent = nullptr;
  const Value* key = nullptr;  ///< of a dict
  std::int64_t index = -1;     ///< in a list or tuple

  /// Keys joined by '.': "model.layers.0.weight". The root is "".
  std::string str() const;
};

/// About as many bytes as key_text gives.
std::uint64_t key_nbytes(const Value& key) noexcept;

/// Appends bytes that differ for different keys of a dict, and for nothing else.
void append_key_id(std::string& out, const Value& key);

/// Called for every node before its children. Returns whether to go into them.
using Visitor = std::function<bool(const Path&, const Value&)>;

/// Visits `root` and all below it, depth first, children in order; dict keys
/// are not visited. Throws Error(invalid) with the path beyond kMaxDepth.
void walk(const Value& root, const Visitor& visit);

/// The same tree with `leaf(node)` in place of each node that is no container.
template <class Leaf>
Value map_leaves(const Value& node, const Leaf& leaf) {
  switch (node.type()) {
    case Value::Type::dict: {
      Value::Pairs pairs;
      for (const auto& [key, child] : node.pairs())
        pairs.emplace_back(key, map_leaves(child, leaf));
      return Value::dict(std::move(pairs)).with_kind(node.kind(), node.extra());
    }
    case Value::Type::list:
    case Value::Type::tuple: {
      Value::Items items;
      for (const auto& child : node.items()) items.push_back(map_leaves(child, leaf));
      auto made = node.type() == Value::Type::list ? Value::list(std::move(items))
                                                   : Value::tuple(std::move(items));
      return made.with_kind(node.kind(), node.extra());
    }
    default: return leaf(node);
  }
}

/// The tensor leaves in walk order. Pointers live as long as `root`.
std::vector<const Tensor*> tensors_of(const Value& root);

}  // namespace understudy::value
