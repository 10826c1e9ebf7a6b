#include "ranks/state_parts.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "format/tree.h"
#include "understudy/chunk.h"
#include "value/extents.h"
#include "value/walk.h"

namespace understudy::ranks {
namespace {

class Splitter {
 public:
  StateParts split(const Value& state) {
    parts_.skeleton = visit({}, state, 0);
    const auto firsts = find_shared(parts_.leaves);
    for (std::size_t i = 0; i < firsts.size(); ++i) parts_.leaves[i].first = firsts[i];
    return std::move(parts_);
  }

 private:
  Value visit(const value::Path& path, const Value& node, int depth) {
    if (depth > kMaxDepth) {
      fail(ErrorCode::invalid, "'{}' is nested more than {} deep", path.str(), kMaxDepth);
    }
    format::Blob::Type blob;
    if (node.type() == Value::Type::tensor) return take_tensor(path, node);
    if (format::is_blob(node, blob)) return take_blob(path, node);
    switch (node.type()) {
      case Value::Type::dict: {
        Value::Pairs pairs;
        for (const auto& [key, child] : node.pairs()) {
          const value::Path way{&path, &key, -1};
          pairs.emplace_back(key, visit(way, child, depth + 1));
        }
        return Value::dict(std::move(pairs)).with_kind(node.kind(), node.extra());
      }
      case Value::Type::list:
      case Value::Type::tuple: {
        Value::Items items;
        for (const auto& child : node.items()) {
          const value::Path way{&path, nullptr, std::ssize(items)};
          items.push_back(visit(way, child, depth + 1));
        }
        auto made = node.type() == Value::Type::list ? Value::list(std::move(items))
                                                     : Value::tuple(std::move(items));
        return made.with_kind(node.kind(), node.extra());
      }
      default: return node;
    }
  }

  Value take_tensor(const value::Path& path, const Value& node) {
    const auto& tensor = node.as_tensor();
    const auto place = chunk_of(node);
    if (!place) return take(path, {{}, node, tensor.shape(), whole(tensor.shape()), 0});
    Chunk chunk{place->offsets, tensor.shape()};
    if (!possible_nbytes(place->shape, tensor.dtype()) || !lies_within(chunk, place->shape)) {
      fail(ErrorCode::invalid,
           "the chunk at '{}' does not lie in its tensor: {} elements at {} of {}", path.str(),
           to_text(chunk.sizes), to_text(chunk.offsets), to_text(place->shape));
    }
    return take(path, {{}, Value(tensor), place->shape, std::move(chunk), 0});
  }

  Value take_blob(const value::Path& path, const Value& node) {
    const Dims shape{static_cast<std::int64_t>(format::blob_nbytes(node))};
    return take(path, {{}, node, shape, whole(shape), 0});
  }

  Value take(const value::Path& path, PartLeaf leaf) {
    const auto name = path.str();
    leaf.key = name;
    for (int i = 2; !keys_.insert(leaf.key).second; ++i) leaf.key = format_text("{}#{}", name, i);
    parts_.leaves.push_back(std::move(leaf));
    return Opaque{parts_.leaves.back().key, nullptr, nullptr, nullptr};
  }

  StateParts parts_;
  std::set<std::string> keys_;
};

// The keys of dicts that `first` lacks.
Value merge(const Value& first, const Value& other) {
  if (first.type() != Value::Type::dict || other.type() != Value::Type::dict) return first;
  Value::Pairs pairs(first.pairs().begin(), first.pairs().end());
  std::map<std::string, std::size_t> places;
  const auto id_of = [](const Value& key) {
    std::string id;
    value::append_key_id(id, key);
    return id;
  };
  for (std::size_t i = 0; i < pairs.size(); ++i) places.emplace(id_of(pairs[i].first), i);
  for (const auto& [key, child] : other.pairs()) {
    const auto [place, is_new] = places.try_emplace(id_of(key), pairs.size());
    if (is_new) {
      pairs.emplace_back(key, child);
    } else {
      auto& mine = pairs[place->second].second;
      mine = merge(mine, child);
    }
  }
  return Value::dict(std::move(pairs)).with_kind(first.kind(), first.extra());
}

}  // namespace

StateParts split_state(const Value& state) {
  return Splitter().split(state);
}

namespace {

// What is the same for cut tensors that are one: equal chunks of equal wholes, over the same bytes.
using CutTensor = std::tuple<const std::byte*, DType, Dims, Dims, Chunk>;

CutTensor cut_tensor(const PartLeaf& leaf) {
  const auto& tensor = leaf.value.as_tensor();
  return {tensor.data(), tensor.dtype(), tensor.strides(), leaf.shape, leaf.chunk};
}

}  // namespace

// Cut tensors are tied or by themselves, whatever else their chunks share: other ranks have other
// chunks.
std::vector<std::size_t> find_shared(std::span<const PartLeaf> leaves) {
  std::vector<std::size_t> found(leaves.size());
  std::vector<const Tensor*> tensors;
  std::vector<std::size_t> places;
  std::map<CutTensor, std::size_t> cut;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const auto& leaf = leaves[i];
    found[i] = i;
    if (leaf.value.type() != Value::Type::tensor) continue;
    if (leaf.chunk != whole(leaf.shape)) {
      if (!is_empty(leaf.chunk)) found[i] = cut.try_emplace(cut_tensor(leaf), i).first->second;
      continue;
    }
    tensors.push_back(&leaf.value.as_tensor());
    places.push_back(i);
  }
  std::map<std::uint32_t, std::size_t> firsts;
  const auto placements = value::find_extents(tensors).placements;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    found[places[t]] = firsts.try_emplace(placements[t].extent, places[t]).first->second;
  }
  return found;
}

Value alone(const Value& state) {
  return value::map_leaves(state, [](const Value& node) {
    if (node.type() != Value::Type::tensor) return node;
    const auto place = chunk_of(node);
    const auto& tensor = node.as_tensor();
    return place && place->shape == tensor.shape() ? Value(tensor) : node;
  });
}

Outline outline_of(const StateParts& parts) {
  Outline outline;
  for (std::size_t i = 0; i < parts.leaves.size(); ++i) {
    const auto& leaf = parts.leaves[i];
    const bool is_tensor = leaf.value.type() == Value::Type::tensor;
    outline.tensors.push_back({leaf.key,
                               is_tensor ? leaf.value.as_tensor().dtype() : DType::u8,
                               leaf.shape,
                               {leaf.chunk},
                               leaf.first == i ? "" : parts.leaves[leaf.first].key,
                               is_tensor && leaf.value.kind() != Value::Kind::numpy_array});
  }
  return outline;
}

std::vector<ShardLeaf> shard_leaves(const StateParts& parts, const Assignment& assignment,
                                    int rank) {
  std::map<std::string_view, const PlannedTensor*> planned;
  for (const auto& tensor : assignment.tensors) planned.emplace(tensor.path, &tensor);
  std::vector<ShardLeaf> leaves;
  for (std::size_t i = 0; i < parts.leaves.size(); ++i) {
    const auto& leaf = parts.leaves[i];
    const bool is_cut = leaf.chunk != whole(leaf.shape);
    // Of an empty tensor nobody may have the whole, which is what is written.
    const bool is_made = is_cut && is_empty(whole(leaf.shape));
    const auto is_mine =
        std::ranges::any_of(planned.at(leaf.key)->chunks, [&](const PlannedChunk& chunk) {
          return chunk.writer == rank && (is_made || chunk.chunk == leaf.chunk);
        });
    if (is_mine) leaves.push_back({i, is_made});
  }
  return leaves;
}

Value shard_of(const StateParts& parts, std::span<const ShardLeaf> leaves,
               const std::function<Value(const Value&)>& take) {
  Value::Pairs pairs;
  for (const auto& [i, is_made] : leaves) {
    const auto& leaf = parts.leaves[i];
    pairs.emplace_back(leaf.key, is_made ? Tensor::zeros(leaf.value.as_tensor().dtype(), leaf.shape)
                                         : take(leaf.value));
  }
  return Value::dict(std::move(pairs));
}

Value shard_of(const StateParts& parts, const Assignment& assignment, int rank) {
  return shard_of(parts, shard_leaves(parts, assignment, rank),
                  [](const Value& leaf) { return leaf; });
}

std::string encode_skeleton(const Value& skeleton, std::vector<format::Span>* scalars) {
  return format::encode_tree(skeleton, {}, scalars);
}

Value decode_skeleton(std::string_view text, std::string_view source) {
  format::TreeSource tree;
  tree.tensor = [&](const format::View&) -> Value {
    fail(ErrorCode::corrupt, "{}: a tensor stands in the tree itself", source);
  };
  tree.blob = [&](std::uint32_t) -> std::string {
    fail(ErrorCode::corrupt, "{}: a long leaf stands in the tree itself", source);
  };
  tree.opaque = [](std::uint32_t, const std::string& key) -> Value {
    return Opaque{key, nullptr, nullptr, nullptr};
  };
  return format::decode_tree(text, {}, tree, source);
}

Value merge_skeletons(std::span<const Value> skeletons) {
  auto merged = skeletons.front();
  for (const auto& other : skeletons.subspan(1)) merged = merge(merged, other);
  return merged;
}

}  // namespace understudy::ranks
