// The state of a step of several shards, of which only what a target needs is opened and read.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/worker_pool.h"
#include "ranks/ranges.h"
#include "restore/arrangement.h"
#include "restore/block_reader.h"
#include "restore/lay_over.h"
#include "restore/step_index.h"
#include "restore/stored_bytes.h"
#include "store/step_files.h"
#include "understudy/value.h"

namespace understudy::restore {

class ShardLeaves {
 public:
  /// Reads the index. `shards`, the step's, and `readers` must outlive it.
  ShardLeaves(const store::StepFolder& step, store::StepShards& shards, WorkerPool& readers,
              bool allow_pickle);

  /// The tree of the state; a leaf is an opaque one whose type name is its key.
  const Value& skeleton() const noexcept { return skeleton_; }

  /// `skeleton`, which is that of above under other names, with leaves that stand for stored bytes:
  /// whole ones, or as large as the chunks of `target`. Long leaves are read.
  Value leaves_for(const Value& target, const Value& skeleton,
                   const std::vector<std::string>& names);

  const ranks::StepIndex& index() const noexcept { return index_; }
  StoredBytes& bytes() noexcept { return bytes_; }
  Arrangement& arrangement() noexcept { return arrangement_; }
  /// As BlockReader::how, of the first shard that was read.
  std::string how() const;

 private:
  using Entries = std::map<std::string, Value>;  // leaves of a shard by their names there
  // A chunk that is wanted, and of which parts it is put together.
  using Joined =
      std::tuple<DType, ranks::Chunk, std::vector<std::pair<const std::byte*, ranks::Chunk>>>;

  const ranks::StoredTensor& stored(const std::string& key) const;
  void open(std::size_t shard, const std::set<std::string>& keys);
  const Value& entry(const ranks::StoredTensor& tensor, const ranks::StoredChunk& chunk) const;
  Value leaf(const ranks::StoredTensor& tensor, const ranks::Chunk& wanted);
  Value put_together(const ranks::StoredTensor& tensor, const ranks::Chunk& wanted,
                     const std::vector<ranks::Part>& parts);
  Tensor read_now(const Tensor& stored) const;

  const std::string name_;  // of the index
  const ranks::StepIndex index_;
  store::StepShards& shards_;
  WorkerPool& readers_;
  const bool allow_pickle_;
  Value skeleton_;
  std::map<std::string_view, const ranks::StoredTensor*> tensors_;
  std::map<std::size_t, Entries> opened_;
  std::vector<std::unique_ptr<BlockReader>> block_readers_;
  StoredBytes bytes_;
  std::map<Joined, std::shared_ptr<const Storage>> joined_;
  Arrangement arrangement_;
};

}  // namespace understudy::restore
