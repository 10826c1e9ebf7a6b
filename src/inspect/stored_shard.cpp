#include "inspect/stored_shard.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/worker_pool.h"
#include "os/system.h"
#include "restore/block_reader.h"
#include "restore/decode.h"
#include "restore/load.h"
#include "vm/mapping.h"

namespace understudy::inspect {
namespace {

/// The bytes that a tensor spans, from its first to its last.
struct Span {
  std::int64_t first = 0;  ///< from its data(), not positive
  std::uint64_t nbytes = 0;
};

Span span_of(const Tensor& t) {
  std::int64_t low = 0, high = 0;  // in elements
  for (std::size_t d = 0; d < t.shape().size(); ++d) {
    const auto reach = (t.shape()[d] - 1) * t.strides()[d];
    (reach < 0 ? low : high) += reach;
  }
  const auto item = static_cast<std::int64_t>(item_size(t.dtype()));
  return {low * item, static_cast<std::uint64_t>((high - low + 1) * item)};
}

}  // namespace

void BlockCursor::read(std::uint64_t begin, std::span<std::byte> out) {
  while (!out.empty()) {
    const auto index = begin / format::kBlockNbytes;
    if (index_ != index) {
      index_.reset();
      block_.resize(std::max(block_.size(), static_cast<std::size_t>(shard_.block_nbytes(index))));
      shard_.read_block(index, block_);
      index_ = index;
    }
    const auto at = begin - index * format::kBlockNbytes;
    const auto n = std::min<std::uint64_t>(out.size(), shard_.block_nbytes(index) - at);
    std::memcpy(out.data(), block_.data() + at, n);
    begin += n;
    out = out.subspan(n);
  }
}

StoredShard::StoredShard(store::ShardReader shard) : shard_(std::move(shard)), addresses_(shard_) {
  WorkerPool readers("us-read", restore::kReadThreads);
  restore::BlockReader reader(shard_, readers);
  if (shard_.integrity()) reader.verify_all();
  const auto& entries = shard_.header().entries;
  const restore::EntryMemory memory{
      [&](std::uint32_t e) { return addresses_.storage(entries[e]); },
      [&](std::uint32_t e) { return reader.bytes(entries[e]); },
      [&](const Tensor& t, const value::InMemory& form) { return place(t, form); }};
  tree_ = restore::decode_state(shard_, memory, {}, /*allow_pickle=*/true);
}

StoredShard::Place StoredShard::place_of(const Tensor& t) {
  return {t.data(), t.shape(), t.strides(), t.dtype()};
}

// Addresses only, as for the file: what shares bytes is seen by them.
Tensor StoredShard::place(const Tensor& tensor, const value::InMemory& form) {
  auto& run = runs_[form.run];
  if (!run) {
    const auto reserved = std::make_shared<vm::Mapping>(
        vm::Mapping::reserve(std::max<std::uint64_t>(form.run_nbytes, 1)));
    run = std::make_shared<Storage>(reserved->data(), form.run_nbytes, reserved);
  }
  Tensor placed(run, tensor.dtype(), tensor.shape(), form.strides, form.byte_offset);
  placed_.emplace(place_of(placed), tensor);
  return placed;
}

const Tensor& StoredShard::in_file(const Tensor& tensor) const {
  const auto found = placed_.find(place_of(tensor));
  return found == placed_.end() ? tensor : found->second;
}

void StoredShard::gather(const Tensor& tensor, std::uint64_t begin,
                         std::span<std::byte> out) const {
  if (out.empty()) return;
  const Tensor& stored = in_file(tensor);
  if (stored.is_contiguous()) {
    read(addresses_.offset(stored.data()) + begin, out);
  } else {
    inspect::gather(copy_of(stored), begin, out);
  }
}

void StoredShard::forget() const {
  const std::lock_guard lock(mutex_);
  cursors_.clear();
  copied_.reset();
  copy_.reset();
}

void StoredShard::read(std::uint64_t begin, std::span<std::byte> out) const {
  std::unique_ptr<BlockCursor> cursor;
  {
    const std::lock_guard lock(mutex_);
    if (!cursors_.empty()) {
      cursor = std::move(cursors_.back());
      cursors_.pop_back();
    }
  }
  if (!cursor) cursor = std::make_unique<BlockCursor>(shard_);
  cursor->read(begin, out);
  const std::lock_guard lock(mutex_);
  cursors_.push_back(std::move(cursor));
}

// Pieces of one tensor are asked for one after the other.
Tensor StoredShard::copy_of(const Tensor& tensor) const {
  const std::lock_guard lock(mutex_);
  if (copied_ && place_of(*copied_) == place_of(tensor)) return *copy_;
  copied_.reset();
  copy_.reset();
  const auto span = span_of(tensor);
  os::require_memory("a tensor that is not contiguous", span.nbytes);
  const auto storage = Storage::allocate(span.nbytes);
  BlockCursor(shard_).read(addresses_.offset(tensor.data() + span.first),
                           {storage->data(), span.nbytes});
  copied_ = tensor;
  copy_ = Tensor(storage, tensor.dtype(), tensor.shape(), tensor.strides(),
                 static_cast<std::uint64_t>(-span.first));
  return *copy_;
}

}  // namespace understudy::inspect
