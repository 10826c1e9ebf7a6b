#include "restore/join_shards.h"

#include <map>
#include <string_view>

#include "base/error.h"
#include "ranks/state_parts.h"
#include "restore/step_index.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

class Joiner {
 public:
  Joiner(const ranks::ChunkIndex& index, const std::vector<Value>& shards, const Join& join,
         const std::string& name)
      : index_(index), join_(join), name_(name), leaves_(shards.size()) {
    for (const auto& tensor : index.tensors) tensors_.emplace(tensor.path, &tensor);
    for (std::size_t i = 0; i < shards.size(); ++i) {
      for (const auto& [key, value] : shards[i].pairs()) {
        if (key.type() == Value::Type::text) leaves_[i].emplace(key.as_text(), &value);
      }
    }
  }

  Value leaf(const std::string& key) {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) refuse("does not say where '{}' lies", key);
    const auto& stored = *found->second;
    if (stored.chunks.size() == 1 && stored.chunks[0].chunk == ranks::whole(stored.shape)) {
      const auto& whole = entry(stored.chunks[0]);
      if (whole.type() == Value::Type::tensor) require(stored, stored.chunks[0], whole);
      return whole;
    }
    std::vector<const Tensor*> chunks;
    for (const auto& chunk : stored.chunks) {
      const auto& value = entry(chunk);
      require(stored, chunk, value);
      chunks.push_back(&value.as_tensor());
    }
    const auto [joined, is_new] = joined_.try_emplace(joined_of(stored, chunks));
    if (is_new) joined->second = join_(stored, chunks);
    return joined->second;
  }

 private:
  const Value& entry(const ranks::StoredChunk& chunk) const {
    const auto found = leaves_[chunk.file].find(chunk.entry);
    if (found == leaves_[chunk.file].end()) {
      refuse("says that '{}' lies in {}, which does not have it", chunk.entry,
             index_.files[chunk.file]);
    }
    return *found->second;
  }

  void require(const ranks::StoredTensor& stored, const ranks::StoredChunk& chunk,
               const Value& value) const {
    require_stored(index_, stored, chunk, value, name_);
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> what, Args&&... args) const {
    fail(ErrorCode::corrupt, "{} {}", name_, format_text(what, std::forward<Args>(args)...));
  }

  const ranks::ChunkIndex& index_;
  const Join& join_;
  const std::string& name_;
  std::map<std::string_view, const ranks::StoredTensor*> tensors_;
  std::vector<std::map<std::string_view, const Value*>> leaves_;  // of each shard
  std::map<JoinedOf, Value> joined_;
};

}  // namespace

JoinedOf joined_of(const ranks::StoredTensor& stored, const std::vector<const Tensor*>& chunks) {
  JoinedOf of{stored.dtype, stored.shape, {}};
  for (const auto* chunk : chunks) {
    std::get<2>(of).emplace_back(chunk->storage().get(), chunk->byte_offset(), chunk->strides());
  }
  return of;
}

Value join_shards(const ranks::StepIndex& index, const std::vector<Value>& shards, const Join& join,
                  const std::string& name) {
  Joiner joiner(index.chunks, shards, join, name);
  return value::map_leaves(ranks::decode_skeleton(index.skeleton, name), [&](const Value& node) {
    const bool is_leaf = node.type() == Value::Type::opaque && !node.as_opaque().pickle;
    return is_leaf ? joiner.leaf(node.as_opaque().type_name) : node;
  });
}

}  // namespace understudy::restore
