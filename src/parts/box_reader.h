// Boxes of stored tensors, read and verified into memory that somebody has.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/worker_pool.h"
#include "ranks/chunk.h"
#include "restore/block_reader.h"
#include "store/reader.h"
#include "understudy/files.h"
#include "understudy/value.h"

namespace understudy::parts {

/// One shard, and where the tensors of its state lie in its data section.
class BoxReader {
 public:
  BoxReader(store::ShardReader shard, const LoadFileOptions& options, WorkerPool& readers);

  const store::ShardReader& shard() const { return shard_; }
  /// The state. Its tensors have no memory: only this class may look at their addresses. Long
  /// leaves are opaque.
  const Value& state() const { return state_; }
  /// What lies under a key of it; null when nothing does.
  const Value* find(const std::string& key) const;

  /// Reads `part` of the tensor `stored`, a leaf of `state()` that holds the elements of `chunk`,
  /// to `to`, which holds those of `part`: at the next `finish`.
  void add(const Tensor& stored, const ranks::Chunk& chunk, const ranks::Chunk& part,
           const Tensor& to);
  /// Reads all that was added, each block once. Throws Error(corrupt), Error(io).
  void finish();
  /// Forgets what was added.
  void forget() noexcept;

 private:
  struct Copy {
    Tensor from, to;
  };

  store::ShardReader shard_;
  const LoadFileOptions& options_;
  WorkerPool& readers_;
  Value state_;
  std::unordered_map<std::string_view, const Value*> by_key_;
  std::vector<restore::Destination> destinations_;
  std::vector<Copy> copies_;  // once all is read
};

}  // namespace understudy::parts
