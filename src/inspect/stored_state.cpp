#include "inspect/stored_state.h"

#include <algorithm>
#include <utility>

#include "ranks/part_runs.h"
#include "restore/join_shards.h"
#include "value/walk.h"
#include "vm/mapping.h"

namespace understudy::inspect {

StoredState::StoredState(OpenTarget source) {
  const auto name = source.name();
  for (auto& shard : source.shards) {
    shards_.push_back(std::make_unique<StoredShard>(std::move(shard)));
  }
  std::vector<Value> trees;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    trees.push_back(shards_[i]->tree());
    for (const auto* tensor : value::tensors_of(trees.back())) {
      shard_of_.emplace(tensor->storage().get(), i);
    }
  }
  const auto join_chunks = [this](const auto& stored, const auto& chunks) {
    return join(stored, chunks);
  };
  tree_ = source.index ? restore::join_shards(*source.index, trees, join_chunks, name)
                       : std::move(trees.front());
}

// Addresses only, which no other tensor has.
Tensor StoredState::join(const ranks::StoredTensor& stored,
                         const std::vector<const Tensor*>& chunks) {
  const auto nbytes = *ranks::possible_nbytes(stored.shape, stored.dtype);
  const auto reserved =
      std::make_shared<vm::Mapping>(vm::Mapping::reserve(std::max<std::uint64_t>(nbytes, 1)));
  const auto storage = std::make_shared<const Storage>(reserved->data(), nbytes, reserved);
  CutTensor cut{stored.shape, {}};
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    cut.pieces.push_back({stored.chunks[i].file, stored.chunks[i].chunk, *chunks[i]});
  }
  cut_.emplace(storage.get(), std::move(cut));
  return Tensor(storage, stored.dtype, stored.shape);
}

void StoredState::gather(const Tensor& tensor, std::uint64_t begin,
                         std::span<std::byte> out) const {
  if (out.empty()) return;
  const auto cut = cut_.find(tensor.storage().get());
  if (cut != cut_.end()) {
    gather_cut(cut->second, begin, out);
  } else {
    shards_[shard_of_.at(tensor.storage().get())]->gather(tensor, begin, out);
  }
}

Gather StoredState::gatherer() const {
  return [this](const Tensor& tensor, std::uint64_t begin, std::span<std::byte> out) {
    gather(tensor, begin, out);
  };
}

void StoredState::gather_cut(const CutTensor& cut, std::uint64_t begin,
                             std::span<std::byte> out) const {
  turn_to(cut);
  const auto whole = ranks::whole(cut.shape);
  const auto end = begin + out.size();
  for (const auto& [shard, chunk, tensor] : cut.pieces) {
    if (ranks::is_empty(chunk)) continue;
    const ranks::PartRuns runs(whole, chunk, chunk, item_size(tensor.dtype()));
    for (auto i = runs.first_behind(begin); i < runs.count(); ++i) {
      const auto run = runs.run(i);
      if (run.from >= end) break;
      const auto lo = std::max(begin, run.from), hi = std::min(end, run.from + runs.run_nbytes());
      shards_[shard]->gather(tensor, run.to + (lo - run.from), out.subspan(lo - begin, hi - lo));
    }
  }
}

// Tensors are gone through one after the other; the shards keep the blocks of one only, so that
// the memory does not grow with their number.
void StoredState::turn_to(const CutTensor& cut) const {
  const std::lock_guard lock(mutex_);
  if (last_ == &cut) return;
  last_ = &cut;
  for (const auto& shard : shards_) shard->forget();
}

}  // namespace understudy::inspect
