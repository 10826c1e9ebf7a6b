// Reading parts of a step: its tree is known from the index, or from the header of its only shard;
// shards are opened when something of them is wanted.
#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/worker_pool.h"
#include "format/metadata.h"
#include "format/tree.h"
#include "os/path.h"
#include "os/system.h"
#include "parts/box_reader.h"
#include "parts/flatten.h"
#include "ranks/index_text.h"
#include "ranks/ranges.h"
#include "ranks/state_parts.h"
#include "restore/decode.h"
#include "restore/load.h"
#include "store/look.h"
#include "store/step_files.h"
#include "understudy/parts.h"
#include "value/walk.h"

namespace understudy {
namespace {

using parts::BoxReader;
using ranks::Chunk;

bool has_memory(const Value& node) {
  return node.type() == Value::Type::tensor ||
         (node.type() == Value::Type::opaque && !node.as_opaque().pickle);
}

bool has_any_memory(const Value& state) {
  bool has = false;
  value::walk(state, [&](const value::Path&, const Value& node) {
    has = has || has_memory(node);
    return !has;
  });
  return has;
}

}  // namespace

class PartReader::Impl {
 public:
  Impl(const std::filesystem::path& path, const LoadFileOptions& options)
      : options_(options),
        readers_("us-read", options.threads > 0 ? options.threads
                                                : os::share_of_this_rank(restore::kReadThreads)) {
    os::require_path(path);
    step_ = store::look_at_step(path);
    if (!step_.is_complete()) {
      fail(step_.code, "{} {}: {}", path.native(),
           step_.code == ErrorCode::corrupt ? "is damaged" : "cannot be read", step_.problem);
    }
    shards_.resize(step_.manifest->files.size());
    if (step_.manifest->index) {
      read_index();
    } else {
      tree_ = shard(0).state();
    }
    if (tree_.type() != Value::Type::dict) {
      fail(ErrorCode::unsupported, "the state of {} is no dict, and has no names", path.native());
    }
    flatten();
  }

  const std::vector<StoredLeaf>& leaves() const { return leaves_; }

  std::vector<Box> chunks(const std::string& name) {
    const auto& node = tensor_node(name);
    std::vector<Box> boxes;
    for (const auto& stored : chunks_of(node))
      boxes.push_back({stored.chunk.offsets, stored.chunk.sizes});
    return boxes;
  }

  bool has(const std::string& name) const {
    LeafPath path;
    return nodes_.contains(name) || parts::find(tree_, name, path) != nullptr;
  }

  Value value(const std::string& name) {
    LeafPath path;
    const auto leaf = nodes_.find(name);
    if (leaf != nodes_.end()) path = leaves_[leaf->second.leaf].path;
    const auto* node = leaf != nodes_.end() ? leaf->second.node : parts::find(tree_, name, path);
    if (node == nullptr) fail_unknown(name);
    auto value = !has_any_memory(*node)  ? *node
                 : step_.manifest->index ? load_shared(*node)
                                         : load_alone(path, name);
    if (!options_.allow_pickle) restore::require_no_pickle(value, step_.path.native());
    return value;
  }

  void read(std::span<const BoxRead> boxes) {
    finish_what([&](std::set<std::size_t>& files) {
      for (const auto& box : boxes) add(box, files);
    });
  }

  Value metadata() const { return metadata_from_json(step_.manifest->metadata_json); }

 private:
  // A leaf by its name.
  struct Named {
    std::size_t leaf;
    const Value* node;
  };

  [[noreturn]] void fail_unknown(const std::string& name) const {
    fail(ErrorCode::not_found, "{} has nothing named '{}'", step_.path.native(), name);
  }

  void read_index() {
    const auto name = (step_.path / store::kIndexName).native();
    std::vector<std::string> files;
    for (const auto& file : step_.manifest->files) files.push_back(file.name);
    index_ = ranks::read_step_index(store::read_index_text(step_), std::move(files), name);
    for (const auto& tensor : index_.chunks.tensors) tensors_.emplace(tensor.path, &tensor);
    tree_ = ranks::decode_skeleton(index_.skeleton, name);
  }

  bool is_tensor(const Value& node) const {
    if (node.type() == Value::Type::tensor) return node.kind() != Value::Kind::numpy_array;
    return step_.manifest->index && has_memory(node) && stored_of(node).is_tensor;
  }

  const ranks::StoredTensor& stored_of(const Value& node) const {
    const auto& key = node.as_opaque().type_name;
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) {
      fail(ErrorCode::corrupt, "{}/{} does not say where '{}' lies", step_.path.native(),
           store::kIndexName, key);
    }
    return *found->second;
  }

  void flatten() {
    parts::Flattener([this](const Value& node) { return is_tensor(node); },
                     [this](const std::string& name, const LeafPath& path, const Value& node) {
                       StoredLeaf leaf{.name = name, .path = path, .is_tensor = is_tensor(node)};
                       if (leaf.is_tensor && node.type() == Value::Type::tensor) {
                         leaf.dtype = node.as_tensor().dtype();
                         leaf.shape = node.as_tensor().shape();
                       } else if (leaf.is_tensor) {
                         leaf.dtype = stored_of(node).dtype;
                         leaf.shape = stored_of(node).shape;
                       }
                       nodes_.emplace(name, Named{leaves_.size(), &node});
                       leaves_.push_back(std::move(leaf));
                     })
        .flatten(tree_);
  }

  const Value& tensor_node(const std::string& name) const {
    const auto found = nodes_.find(name);
    if (found == nodes_.end() || !leaves_[found->second.leaf].is_tensor) fail_unknown(name);
    return *found->second.node;
  }

  std::vector<ranks::StoredChunk> chunks_of(const Value& node) const {
    if (node.type() == Value::Type::opaque) return stored_of(node).chunks;
    return {{0, "", ranks::whole(node.as_tensor().shape())}};
  }

  // Each is opened once, and checked against the manifest.
  BoxReader& shard(std::size_t file) {
    auto& shard = shards_[file];
    if (!shard) {
      auto one = step_;
      one.manifest->files = {step_.manifest->files[file]};
      shard = std::make_unique<BoxReader>(store::open_step(one), options_, readers_);
    }
    return *shard;
  }

  // The tensor of a chunk, as it lies in its file.
  const Tensor& tensor_of(const ranks::StoredChunk& stored, const Value& node) {
    if (node.type() == Value::Type::tensor) return node.as_tensor();
    const auto& tensor = stored_of(node);
    const auto* found = shard(stored.file).find(stored.entry);
    const bool fits = found != nullptr && found->type() == Value::Type::tensor &&
                      found->as_tensor().dtype() == tensor.dtype &&
                      found->as_tensor().shape() == stored.chunk.sizes;
    if (!fits) {
      fail(ErrorCode::corrupt,
           "{}/{} says that '{}' of {} is a chunk of '{}' with the shape {}, which it is not",
           step_.path.native(), store::kIndexName, stored.entry,
           step_.manifest->files[stored.file].name, tensor.path,
           ranks::to_text(stored.chunk.sizes));
    }
    return found->as_tensor();
  }

  void add(const BoxRead& box, std::set<std::size_t>& files) {
    const auto& node = tensor_node(box.name);
    const auto& leaf = leaves_[nodes_.at(box.name).leaf];
    const Chunk wanted{box.offsets, box.to.shape()};
    if (box.to.dtype() != leaf.dtype || !ranks::lies_within(wanted, leaf.shape)) {
      fail(ErrorCode::invalid, "'{}' is {} {} in {}, and {} elements of {} at {} are wanted",
           box.name, name(leaf.dtype), ranks::to_text(leaf.shape), step_.path.native(),
           ranks::to_text(wanted.sizes), name(box.to.dtype()), ranks::to_text(wanted.offsets));
    }
    const auto stored = chunks_of(node);
    std::vector<Chunk> chunks;
    for (const auto& one : stored) chunks.push_back(one.chunk);
    for (const auto& part : ranks::parts_of(wanted, chunks)) {
      const auto& one = stored[part.stored];
      files.insert(one.file);
      shard(one.file).add(tensor_of(one, node), one.chunk, part.chunk,
                          ranks::view_of(box.to, wanted, part.chunk));
    }
  }

  // Reads what `add_all` has added; or, when anything fails, nothing of it at a later call.
  template <class AddAll>
  void finish_what(const AddAll& add_all) {
    std::set<std::size_t> files;
    try {
      add_all(files);
      for (const auto file : files) shard(file).finish();
    } catch (...) {
      for (const auto& shard : shards_) {
        if (shard) shard->forget();
      }
      throw;
    }
  }

  // A container is loaded from the last dict above it on: below that nothing can be chosen.
  Value load_alone(const LeafPath& path, const std::string& name) {
    LeafPath way;
    std::string text;
    const auto* node = &tree_;
    for (const auto& step : path) {
      if (!parts::is_mapping(*node) || !std::holds_alternative<std::string>(step)) break;
      text += (text.empty() ? "" : ".") + std::get<std::string>(step);
      way.push_back(step);
      node = parts::follow(tree_, way);
    }
    auto options = options_;
    options.names = {text};
    const auto loaded = restore::load(shard(0).shard(), options, readers_).state;
    const auto* found = parts::follow(loaded, path);
    if (found == nullptr) fail_unknown(name);
    return *found;
  }

  Value load_shared(const Value& node) {
    std::map<std::uint32_t, std::vector<std::string>> entries;
    value::walk(node, [&](const value::Path&, const Value& child) {
      if (!has_memory(child)) return true;
      const auto& tensor = stored_of(child);
      if (tensor.chunks.size() == 1 && tensor.chunks[0].chunk == ranks::whole(tensor.shape)) {
        entries[tensor.chunks[0].file].push_back(tensor.chunks[0].entry);
      }
      return true;
    });
    std::map<std::string, Value> loaded;
    for (auto& [file, names] : entries) {
      auto options = options_;
      options.names = std::move(names);
      const auto state = restore::load(shard(file).shard(), options, readers_).state;
      for (const auto& [key, value] : state.pairs()) loaded.emplace(key.as_text(), value);
    }
    return value::map_leaves(node, [&](const Value& child) {
      if (!has_memory(child)) return child;
      const auto found = loaded.find(child.as_opaque().type_name);
      return found != loaded.end() ? found->second : join(child);
    });
  }

  // A tensor of several chunks, or of none.
  Value join(const Value& node) {
    const auto& tensor = stored_of(node);
    os::require_memory("a tensor of several chunks",
                       *ranks::possible_nbytes(tensor.shape, tensor.dtype));
    auto joined = Tensor::zeros(tensor.dtype, tensor.shape);
    finish_what([&](std::set<std::size_t>& files) {
      for (const auto& stored : tensor.chunks) {
        files.insert(stored.file);
        shard(stored.file)
            .add(tensor_of(stored, node), stored.chunk, stored.chunk,
                 ranks::view_of(joined, ranks::whole(tensor.shape), stored.chunk));
      }
    });
    return joined;
  }

  const LoadFileOptions options_;
  WorkerPool readers_;
  store::StepFolder step_;
  ranks::StepIndex index_;
  std::unordered_map<std::string, const ranks::StoredTensor*> tensors_;
  std::vector<std::unique_ptr<BoxReader>> shards_;
  Value tree_;
  std::vector<StoredLeaf> leaves_;
  std::unordered_map<std::string, Named> nodes_;
};

PartReader::PartReader(const std::filesystem::path& path, const LoadFileOptions& options)
    : impl_(std::make_unique<Impl>(path, options)) {}
PartReader::~PartReader() = default;
PartReader::PartReader(PartReader&&) noexcept = default;
PartReader& PartReader::operator=(PartReader&&) noexcept = default;

const std::vector<StoredLeaf>& PartReader::leaves() const {
  return impl_->leaves();
}
std::vector<Box> PartReader::chunks(const std::string& name) const {
  return impl_->chunks(name);
}
bool PartReader::has(const std::string& name) const {
  return impl_->has(name);
}
Value PartReader::value(const std::string& name) {
  return impl_->value(name);
}
void PartReader::read(std::span<const BoxRead> boxes) {
  impl_->read(boxes);
}
Value PartReader::metadata() const {
  return impl_->metadata();
}

}  // namespace understudy
