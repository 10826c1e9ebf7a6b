#include "restore/shard_leaves.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "os/system.h"
#include "ranks/ranges.h"
#include "ranks/state_parts.h"
#include "restore/decode.h"

namespace understudy::restore {
namespace {

using ranks::Chunk;
using ranks::StoredChunk;
using ranks::StoredTensor;

constexpr std::size_t kMostItemNbytes = 16;  // a complex128

bool is_leaf(const Value& node) {
  return node.type() == Value::Type::opaque && !node.as_opaque().pickle;
}

// Only a chunk of a tensor can be asked for that is cut, by those who want it or where it lies.
Chunk chunk_of(const StoredTensor& tensor, const Counterpart& counterpart) {
  return chunk_wanted(counterpart.target, tensor.shape).value_or(ranks::whole(tensor.shape));
}

std::vector<ranks::Part> parts_of(const StoredTensor& tensor, const Chunk& wanted) {
  std::vector<Chunk> chunks;
  for (const auto& stored : tensor.chunks) chunks.push_back(stored.chunk);
  return ranks::parts_of(wanted, chunks);
}

// Which chunks are looked at: those of which something is wanted. What has no element may have one
// chunk all the same: it is a tensor, or an empty text.
std::vector<ranks::Part> parts_to_open(const StoredTensor& tensor, const Chunk& wanted) {
  if (tensor.chunks.size() == 1 && tensor.chunks[0].chunk == wanted) return {{0, wanted}};
  return parts_of(tensor, wanted);
}

}  // namespace

ShardLeaves::ShardLeaves(const store::StepFolder& step, store::StepShards& shards,
                         WorkerPool& readers, bool allow_pickle)
    : name_(index_name(step)),
      index_(read_index(step)),
      shards_(shards),
      readers_(readers),
      allow_pickle_(allow_pickle),
      skeleton_(ranks::decode_skeleton(index_.skeleton, name_)) {
  for (const auto& tensor : index_.chunks.tensors) tensors_.emplace(tensor.path, &tensor);
}

Value ShardLeaves::leaves_for(const Value& target, const Value& skeleton,
                              const std::vector<std::string>& names) {
  const auto one = Storage::allocate(kMostItemNbytes);  // element, which stands for all
  const auto wants = wants_of(target, skeleton, [&](const Value& node) -> Value {
    if (!is_leaf(node)) return node;
    const auto& tensor = stored(node.as_opaque().type_name);
    return Tensor(one, tensor.dtype, tensor.shape, Dims(tensor.shape.size(), 0));
  });
  std::map<std::size_t, std::set<std::string>> keys;
  lay_over(target, skeleton, names, wants, [&](const Value& node, const Counterpart& counterpart) {
    if (!is_leaf(node) || !counterpart.is_wanted) return node;
    const auto& tensor = stored(node.as_opaque().type_name);
    for (const auto& part : parts_to_open(tensor, chunk_of(tensor, counterpart))) {
      const auto& chunk = tensor.chunks[part.stored];
      keys[chunk.file].insert(chunk.entry);
    }
    return node;
  });
  for (const auto& [shard, wanted] : keys) open(shard, wanted);
  return lay_over(target, skeleton, names, wants, [&](const Value& node, const Counterpart& other) {
    if (!is_leaf(node) || !other.is_wanted) return node;
    const auto& tensor = stored(node.as_opaque().type_name);
    const auto wanted = chunk_of(tensor, other);
    auto made = leaf(tensor, wanted);
    const bool is_part = made.type() == Value::Type::tensor && wanted.sizes != tensor.shape;
    return is_part ? part_for(other, made.as_tensor(), {tensor.shape, wanted.offsets}) : made;
  });
}

std::string ShardLeaves::how() const {
  for (const auto& reader : block_readers_) {
    if (auto how = reader->how(); !how.empty()) return how;
  }
  return {};
}

const StoredTensor& ShardLeaves::stored(const std::string& key) const {
  const auto found = tensors_.find(key);
  if (found == tensors_.end()) {
    fail(ErrorCode::corrupt, "{} does not say where '{}' lies", name_, key);
  }
  return *found->second;
}

void ShardLeaves::open(std::size_t shard, const std::set<std::string>& keys) {
  const auto& file = shards_.at(shard);
  auto& reader = *block_readers_.emplace_back(std::make_unique<BlockReader>(file, readers_));
  bytes_.add_file(file, reader);
  arrangement_.add_file(file.name(), file.header().data_nbytes);
  const auto& entries = file.header().entries;
  const EntryMemory memory{[&](std::uint32_t e) { return bytes_.storage(entries[e]); },
                           [&](std::uint32_t e) { return reader.bytes(entries[e]); },
                           [&](const Tensor& t, const auto& form) {
                             arrangement_.note(t, form);
                             return t;
                           }};
  opened_[shard] = decode_leaves(file, memory, keys, allow_pickle_);
  reader.rest();
}

const Value& ShardLeaves::entry(const StoredTensor& tensor, const StoredChunk& chunk) const {
  const auto& entries = opened_.at(chunk.file);
  const auto found = entries.find(chunk.entry);
  if (found == entries.end()) {
    fail(ErrorCode::corrupt, "{} says that '{}' lies in {}, which does not have it", name_,
         chunk.entry, index_.chunks.files[chunk.file]);
  }
  const bool may_be_long_leaf = tensor.chunks.size() == 1;
  if (!may_be_long_leaf || found->second.type() == Value::Type::tensor) {
    require_stored(index_.chunks, tensor, chunk, found->second, name_);
  }
  return found->second;
}

Value ShardLeaves::leaf(const StoredTensor& tensor, const Chunk& wanted) {
  for (const auto& chunk : tensor.chunks) {
    if (chunk.chunk == wanted) return entry(tensor, chunk);
  }
  if (ranks::is_empty(wanted)) return Tensor::zeros(tensor.dtype, wanted.sizes);
  return put_together(tensor, wanted, parts_of(tensor, wanted));
}

Value ShardLeaves::put_together(const StoredTensor& tensor, const Chunk& wanted,
                                const std::vector<ranks::Part>& parts) {
  std::vector<StoredPart> stored;
  for (const auto& part : parts) {
    const auto& chunk = tensor.chunks[part.stored];
    const auto& value = entry(tensor, chunk);
    // A long leaf where the target has a chunk: that is for the comparison to tell.
    if (value.type() != Value::Type::tensor) return value;
    const auto& leaf = value.as_tensor();
    if (bytes_.has_run(leaf)) stored.push_back({leaf.data(), chunk.chunk, part.chunk});
  }
  if (stored.size() == parts.size()) {
    // Tied tensors are one: parts that begin at the same addresses are the same.
    Joined of{tensor.dtype, wanted, {}};
    for (const auto& part : stored) std::get<2>(of).emplace_back(part.at, part.part);
    const auto [joined, is_new] = joined_.try_emplace(std::move(of));
    if (is_new) {
      joined->second = bytes_.put_together(wanted, item_size(tensor.dtype), std::move(stored));
    }
    return Tensor(joined->second, tensor.dtype, wanted.sizes);
  }
  // Some lie in their files in another order, because they share memory with others.
  os::require_memory("a chunk of a tensor that shares memory",
                     static_cast<std::uint64_t>(ranks::numel(wanted)) * item_size(tensor.dtype));
  const auto made = Tensor::zeros(tensor.dtype, wanted.sizes);
  for (const auto& part : parts) {
    const auto& chunk = tensor.chunks[part.stored];
    ranks::copy_part(read_now(entry(tensor, chunk).as_tensor()), chunk.chunk, made, wanted,
                     part.chunk);
  }
  return made;
}

// With all of the entry that it is a view of.
Tensor ShardLeaves::read_now(const Tensor& stored) const {
  const auto& from = *stored.storage();
  os::require_memory("a tensor that shares memory", from.nbytes());
  const auto memory = Storage::allocate_for_overwrite(from.nbytes());
  StoredBytes::Reading reading;
  bytes_.add(reading, from.data(), from.nbytes(), memory->data(), true);
  bytes_.read(std::move(reading));
  return {memory, stored.dtype(), stored.shape(), stored.strides(), stored.byte_offset()};
}

}  // namespace understudy::restore
