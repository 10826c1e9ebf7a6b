#include "inspect/stored_state.h"

#include <algorithm>
#include <utility>

#include "ranks/put_together.h"
#include "value/walk.h"
#include "vm/mapping.h"

namespace understudy::inspect {
namespace {

/// The runs of elements that a chunk has in the C order of its tensor: all as long, one for each
/// place in the dimensions before that from which on the chunk goes through the whole tensor.
class Runs {
 public:
  Runs(const Dims& shape, const ranks::Chunk& chunk) : shape_(shape), chunk_(chunk) {
    outer_ = shape.size();
    while (outer_ > 0) {
      --outer_;
      numel_ *= static_cast<std::uint64_t>(chunk.sizes[outer_]);
      if (chunk.sizes[outer_] != shape[outer_]) break;
    }
    for (std::size_t d = 0; d < outer_; ++d) count_ *= static_cast<std::uint64_t>(chunk.sizes[d]);
  }

  std::uint64_t count() const { return count_; }
  /// Elements of a run.
  std::uint64_t numel() const { return numel_; }

  /// The first element of a run, counted in the tensor. Ascends with the run.
  std::uint64_t begin(std::uint64_t run) const {
    std::uint64_t begin = 0, stride = 1;
    for (std::size_t d = shape_.size(); d-- > 0;) {
      auto index = static_cast<std::uint64_t>(chunk_.offsets[d]);
      if (d < outer_) {
        const auto size = static_cast<std::uint64_t>(chunk_.sizes[d]);
        index += run % size;
        run /= size;
      }
      begin += index * stride;
      stride *= static_cast<std::uint64_t>(shape_[d]);
    }
    return begin;
  }

  /// The first run that has an element from `element` on.
  std::uint64_t first_from(std::uint64_t element) const {
    std::uint64_t low = 0, high = count_;
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      if (begin(middle) + numel_ > element) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

 private:
  const Dims& shape_;
  const ranks::Chunk& chunk_;
  std::size_t outer_ = 0;  // dimensions before the runs'
  std::uint64_t numel_ = 1;
  std::uint64_t count_ = 1;
};

}  // namespace

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
  tree_ = source.index ? ranks::put_together(*source.index, trees, join_chunks, name)
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
  const auto item = std::uint64_t{item_size(cut.pieces.front().tensor.dtype())};
  const auto end = begin + out.size();
  for (const auto& piece : cut.pieces) {
    const Runs runs(cut.shape, piece.chunk);
    for (auto run = runs.first_from(begin / item); run < runs.count(); ++run) {
      const auto run_begin = runs.begin(run) * item;
      const auto from = std::max(begin, run_begin);
      const auto to = std::min(end, run_begin + runs.numel() * item);
      if (from >= to) break;
      shards_[piece.shard]->gather(piece.tensor, run * runs.numel() * item + (from - run_begin),
                                   out.subspan(from - begin, to - from));
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
