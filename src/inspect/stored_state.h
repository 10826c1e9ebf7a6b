// A whole state that stays in its files, of which there may be several.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "inspect/gather.h"
#include "inspect/resolve.h"
#include "inspect/stored_shard.h"
#include "understudy/value.h"

namespace understudy::inspect {

/// A tensor whose chunks lie in several shards.
struct CutTensor {
  struct Piece {
    std::size_t shard;
    ranks::Chunk chunk;
    Tensor tensor;  ///< of that shard's tree
  };
  Dims shape;
  std::vector<Piece> pieces;
};

/// Needs what a StoredShard needs, for each shard in which the tensor lies that is read.
class StoredState {
 public:
  /// Verifies every byte, where there are checksums. Throws Error(corrupt).
  explicit StoredState(OpenTarget source);

  /// As StoredShard::tree.
  const Value& tree() const noexcept { return tree_; }

  /// As StoredShard::gather.
  void gather(const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out) const;
  Gather gatherer() const;

 private:
  Tensor join(const ranks::StoredTensor& stored, const std::vector<const Tensor*>& chunks);
  void gather_cut(const CutTensor& cut, std::uint64_t begin, std::span<std::byte> out) const;
  void turn_to(const CutTensor& cut) const;

  std::vector<std::unique_ptr<StoredShard>> shards_;
  std::unordered_map<const Storage*, std::size_t> shard_of_;  // that holds the bytes
  std::unordered_map<const Storage*, CutTensor> cut_;
  Value tree_;

  mutable std::mutex mutex_;
  mutable const CutTensor* last_ = nullptr;  // that was read
};

}  // namespace understudy::inspect
