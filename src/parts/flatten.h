// A nested state taken apart as torch.distributed.checkpoint does it (its flatten_state_dict).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "understudy/parts.h"

namespace understudy::parts {

/// Dicts are taken apart, and lists that have a tensor, a dict or such a list in them. All else is
/// a leaf.
class Flattener {
 public:
  using IsTensor = std::function<bool(const Value& node)>;
  using OnLeaf =
      std::function<void(const std::string& name, const LeafPath& path, const Value& node)>;

  Flattener(IsTensor is_tensor, OnLeaf on_leaf)
      : is_tensor_(std::move(is_tensor)), on_leaf_(std::move(on_leaf)) {}
  void flatten(const Value& state);

 private:
  void visit(const Value& node);
  bool is_terminal(const Value& node) const;

  IsTensor is_tensor_;
  OnLeaf on_leaf_;
  LeafPath path_;
};

/// True for a dict of Python's that is a Mapping, and for a plain list.
bool is_mapping(const Value& node);
bool is_list(const Value& node);

/// The node with that name below `node`, container or leaf; null when there is none. `path` gets
/// the way to it.
const Value* find(const Value& node, std::string_view name, LeafPath& path);

/// The node at the end of the way; null when it leads nowhere.
const Value* follow(const Value& node, const LeafPath& path);

}  // namespace understudy::parts
