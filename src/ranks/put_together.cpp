#include "ranks/put_together.h"

#include <map>

#include "base/error.h"
#include "ranks/state_parts.h"
#include "value/walk.h"

namespace understudy::ranks {
namespace {

class Joiner {
 public:
  Joiner(const ChunkIndex& index, const std::vector<Value>& shards, const Join& join,
         std::string_view source)
      : index_(index), join_(join), source_(source), leaves_(shards.size()) {
    for (const auto& tensor : index.tensors) tensors_.emplace(tensor.path, &tensor);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      for (const auto& [key, value] : shards[i].pairs()) {
        if (key.type() == Value::Type::text) leaves_[i].emplace(key.as_text(), &value);
      }
    }
  }

  Value leaf(const std::string& key) const {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) refuse("does not say where '{}' lies", key);
    const auto& stored = *found->second;
    if (stored.chunks.size() == 1 && stored.chunks[0].chunk == whole(stored.shape)) {
      return entry(stored, stored.chunks[0]);
    }
    std::vector<const Tensor*> chunks;
    for (const auto& chunk : stored.chunks) {
      const auto& value = entry(stored, chunk);
      if (value.type() != Value::Type::tensor) refuse_entry(stored, chunk);
      chunks.push_back(&value.as_tensor());
    }
    return join_(stored, chunks);
  }

 private:
  const Value& entry(const StoredTensor& stored, const StoredChunk& chunk) const {
    const auto value = leaves_[chunk.file].find(chunk.entry);
    if (value == leaves_[chunk.file].end()) {
      refuse("says that '{}' lies in {}, which does not have it", chunk.entry,
             index_.files[chunk.file]);
    }
    const auto& leaf = *value->second;
    if (leaf.type() == Value::Type::tensor) {
      const auto& tensor = leaf.as_tensor();
      if (tensor.dtype() != stored.dtype || tensor.shape() != chunk.chunk.sizes) {
        refuse_entry(stored, chunk);
      }
    }
    return leaf;
  }

  [[noreturn]] void refuse_entry(const StoredTensor& stored, const StoredChunk& chunk) const {
    refuse(
        "says that '{}' of {} is a part of '{}' with the type {} and the shape {}, which it is not",
        chunk.entry, index_.files[chunk.file], stored.path, name(stored.dtype),
        to_text(chunk.chunk.sizes));
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> what, Args&&... args) const {
    fail(ErrorCode::corrupt, "{} {}", source_, format_text(what, std::forward<Args>(args)...));
  }

  const ChunkIndex& index_;
  const Join& join_;
  std::string_view source_;
  std::map<std::string_view, const StoredTensor*> tensors_;
  std::vector<std::map<std::string_view, const Value*>> leaves_;  // of each shard
};

}  // namespace

Value put_together(const StepIndex& index, const std::vector<Value>& shards, const Join& join,
                   std::string_view source) {
  const Joiner joiner(index.chunks, shards, join, source);
  return value::map_leaves(decode_skeleton(index.skeleton, source), [&](const Value& node) {
    const bool is_leaf = node.type() == Value::Type::opaque && !node.as_opaque().pickle;
    return is_leaf ? joiner.leaf(node.as_opaque().type_name) : node;
  });
}

}  // namespace understudy::ranks
