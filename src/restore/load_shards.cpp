#include "restore/load_shards.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "base/error.h"
#include "format/tree.h"
#include "os/system.h"
#include "ranks/ranges.h"
#include "restore/decode.h"
#include "restore/join_shards.h"
#include "restore/selection.h"
#include "restore/step_index.h"
#include "value/walk.h"

namespace understudy::restore {
namespace {

using ranks::StoredTensor;

class ShardsLoader {
 public:
  ShardsLoader(const store::StepFolder& step, store::StepShards& shards,
               const LoadFileOptions& options, WorkerPool& readers)
      : shards_(shards),
        options_(options),
        readers_(readers),
        name_(index_name(step)),
        index_(read_index(step)) {}

  Loaded load() {
    const auto skeleton = select();
    value::walk(skeleton, [&](const value::Path&, const Value& node) {
      if (is_leaf(node)) wanted_.insert(node.as_opaque().type_name);
      return true;
    });
    for (const auto& tensor : index_.chunks.tensors) {
      if (wanted_.contains(tensor.path)) tensors_.emplace(tensor.path, &tensor);
    }
    read_shards();
    return {put_leaves(skeleton), how_};
  }

 private:
  static bool is_leaf(const Value& node) {
    return node.type() == Value::Type::opaque && !node.as_opaque().pickle;
  }

  // The tree of what `names` takes; leaves are still opaque.
  Value select() const {
    Selection selection(options_.names);
    format::TreeSource source;
    source.opaque = [](std::uint32_t, const std::string& key) -> Value {
      return Opaque{key, nullptr, nullptr, nullptr};
    };
    source.tensor = [&](const format::View&) -> Value { refuse("has a tensor in its tree"); };
    source.blob = [&](std::uint32_t) -> std::string { refuse("has a long leaf in its tree"); };
    if (!selection.takes_all()) source.select = std::ref(selection);
    auto skeleton = format::decode_tree(index_.skeleton, {}, source, name_);
    if (const auto* name = selection.first_unseen()) {
      fail(ErrorCode::not_found, "{} has nothing named '{}'", name_, *name);
    }
    return skeleton;
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> what, Args&&... args) const {
    fail(ErrorCode::corrupt, "{} {}", name_, format_text(what, std::forward<Args>(args)...));
  }

  // Each shard once, and of it only what is wanted.
  void read_shards() {
    std::vector<std::set<std::string>> entries(shards_.count());
    for (const auto& [key, tensor] : tensors_) {
      for (const auto& stored : tensor->chunks) entries[stored.file].insert(stored.entry);
    }
    loaded_.resize(shards_.count());
    for (std::size_t i = 0; i < shards_.count(); ++i) {
      if (entries[i].empty()) continue;
      auto options = options_;
      options.names.clear();
      if (!options_.names.empty()) options.names.assign(entries[i].begin(), entries[i].end());
      auto loaded = restore::load(shards_.at(i), options, readers_);
      if (how_.empty()) how_ = std::move(loaded.how);
      for (const auto& [key, value] : loaded.state.pairs()) {
        if (key.type() == Value::Type::text) loaded_[i].emplace(key.as_text(), value);
      }
    }
  }

  const Value& entry(const ranks::StoredChunk& stored) const {
    const auto found = loaded_[stored.file].find(stored.entry);
    if (found == loaded_[stored.file].end()) {
      refuse("says that '{}' lies in {}, which does not have it", stored.entry,
             index_.chunks.files[stored.file]);
    }
    return found->second;
  }

  Value put_leaves(const Value& skeleton) {
    return value::map_leaves(skeleton, [this](const Value& node) {
      return is_leaf(node) ? leaf(node.as_opaque().type_name) : node;
    });
  }

  Value leaf(const std::string& key) {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) refuse("does not say where '{}' lies", key);
    const auto& tensor = *found->second;
    if (tensor.chunks.empty()) return Tensor::zeros(tensor.dtype, tensor.shape);
    const auto whole = ranks::whole(tensor.shape);
    if (tensor.chunks.size() == 1 && tensor.chunks[0].chunk == whole) {
      const auto& value = entry(tensor.chunks[0]);
      if (value.type() == Value::Type::tensor) require_stored(tensor, tensor.chunks[0], value);
      return value;
    }
    return join(tensor, whole);
  }

  void require_stored(const StoredTensor& tensor, const ranks::StoredChunk& stored,
                      const Value& value) const {
    restore::require_stored(index_.chunks, tensor, stored, value, name_);
  }

  // A tensor of its chunks, which cover it: the index was looked at for that.
  Value join(const StoredTensor& tensor, const ranks::Chunk& whole) {
    std::vector<const Tensor*> chunks;
    for (const auto& stored : tensor.chunks) {
      const auto& value = entry(stored);
      require_stored(tensor, stored, value);
      chunks.push_back(&value.as_tensor());
    }
    // What was tied to it holds the same storages: no other can have their addresses meanwhile.
    const auto [found, is_new] = joined_.try_emplace(joined_of(tensor, chunks));
    if (!is_new) return found->second;
    os::require_memory("a tensor of several chunks",
                       *ranks::possible_nbytes(tensor.shape, tensor.dtype));
    const auto joined = Tensor::zeros(tensor.dtype, tensor.shape);
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      const auto& stored = tensor.chunks[i];
      ranks::copy_part(*chunks[i], stored.chunk, joined, whole, stored.chunk);
      loaded_[stored.file].erase(stored.entry);  // its memory is not needed any more
    }
    found->second = joined;
    return joined;
  }

  store::StepShards& shards_;
  const LoadFileOptions& options_;
  WorkerPool& readers_;
  const std::string name_;
  ranks::StepIndex index_;
  std::set<std::string> wanted_;
  std::map<std::string, const StoredTensor*> tensors_;  // that are wanted
  std::vector<std::map<std::string, Value>> loaded_;    // by shard
  std::map<JoinedOf, Value> joined_;
  std::string how_;
};

}  // namespace

Loaded load_shards(const store::StepFolder& step, store::StepShards& shards,
                   const LoadFileOptions& options, WorkerPool& readers) {
  auto loaded = ShardsLoader(step, shards, options, readers).load();
  if (!options.allow_pickle) require_no_pickle(loaded.state, step.path.native());
  return loaded;
}

Loaded load_step(const store::StepFolder& step, store::StepShards& shards,
                 const LoadFileOptions& options, WorkerPool& readers) {
  if (step.manifest->index) return load_shards(step, shards, options, readers);
  return load(shards.at(0), options, readers);
}

}  // namespace understudy::restore
