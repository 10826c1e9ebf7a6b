#include "parts/box_reader.h"

#include <utility>

#include "base/error.h"
#include "os/system.h"
#include "ranks/ranges.h"
#include "restore/decode.h"
#include "understudy/files.h"
#include "value/strided_copy.h"

namespace understudy::parts {
namespace {

// Shorter runs go through memory of their own: each costs a look-up, as many bytes cost a copy.
constexpr std::uint64_t kMinRunNbytes = 512;

// Entries of a state without memory begin here: an address that is not null.
constexpr std::uintptr_t kBase = 4096;

std::uint64_t place_of(const Tensor& stored) {
  return reinterpret_cast<std::uintptr_t>(stored.data()) - kBase;
}

// Runs that are dense in both of two tensors of one shape.
class Runs {
 public:
  Runs(const Tensor& from, const Tensor& to)
      : from_(from), to_(to), item_(static_cast<std::int64_t>(item_size(from.dtype()))) {
    std::int64_t run = 1;
    outer_ = from.shape().size();
    while (outer_ > 0) {
      const auto d = outer_ - 1;
      const auto size = from.shape()[d];
      if (size != 1 && (from.strides()[d] != run || to.strides()[d] != run)) break;
      run *= size;
      --outer_;
    }
    nbytes_ = static_cast<std::uint64_t>(run * item_);
  }

  std::uint64_t nbytes() const { return nbytes_; }
  bool is_one() const { return outer_ == 0; }

  // `take(byte offset in from, byte offset in to)`, ascending in C order.
  template <class Take>
  void each(const Take& take) const {
    Dims index(outer_, 0);
    std::int64_t a = 0, b = 0;
    for (;;) {
      take(a, b);
      std::size_t d = outer_;
      for (; d > 0; --d) {
        a += from_.strides()[d - 1] * item_;
        b += to_.strides()[d - 1] * item_;
        if (++index[d - 1] < from_.shape()[d - 1]) break;
        a -= from_.strides()[d - 1] * item_ * from_.shape()[d - 1];
        b -= to_.strides()[d - 1] * item_ * from_.shape()[d - 1];
        index[d - 1] = 0;
      }
      if (d == 0) return;
    }
  }

 private:
  const Tensor& from_;
  const Tensor& to_;
  const std::int64_t item_;
  std::size_t outer_ = 0;  // dimensions before those of a run
  std::uint64_t nbytes_ = 0;
};

}  // namespace

BoxReader::BoxReader(store::ShardReader shard, const LoadFileOptions& options, WorkerPool& readers)
    : shard_(std::move(shard)), options_(options), readers_(readers) {
  const auto& entries = shard_.header().entries;
  const restore::EntryMemory memory{
      [&](std::uint32_t e) {
        auto* const at = reinterpret_cast<std::byte*>(kBase + entries[e].begin);
        return std::make_shared<const Storage>(at, entries[e].nbytes(), nullptr);
      },
      [](std::uint32_t) { return std::string(); },
      [](const Tensor& in_file, const value::InMemory&) { return in_file; },
      [](std::uint32_t) { return false; }};
  state_ = restore::decode_state(shard_, memory, {}, /*allow_pickle=*/true);
  if (state_.type() != Value::Type::dict) return;
  for (const auto& [key, child] : state_.pairs()) {
    if (key.type() == Value::Type::text) by_key_.emplace(key.as_text(), &child);
  }
}

const Value* BoxReader::find(const std::string& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : found->second;
}

void BoxReader::add(const Tensor& stored, const ranks::Chunk& chunk, const ranks::Chunk& part,
                    const Tensor& to) {
  if (ranks::is_empty(part)) return;
  const auto from = ranks::view_of(stored, chunk, part);
  const Runs runs(from, to);
  const auto begin = place_of(from);
  if (!runs.is_one() && runs.nbytes() < kMinRunNbytes) {
    // All between the first element and the last, which the blocks bring along anyway.
    std::uint64_t span = item_size(from.dtype());
    for (std::size_t d = 0; d < from.shape().size(); ++d) {
      if (from.strides()[d] < 0)
        fail(ErrorCode::corrupt, "{} has a tensor that runs backwards", shard_.name());
      span += static_cast<std::uint64_t>((from.shape()[d] - 1) * from.strides()[d]) *
              item_size(from.dtype());
    }
    os::require_memory("a box of a tensor", span);
    const auto memory = Storage::allocate(span);
    destinations_.push_back({begin, span, memory->data(), false});
    copies_.push_back({Tensor(memory, from.dtype(), from.shape(), from.strides()), to});
    return;
  }
  runs.each([&](std::int64_t a, std::int64_t b) {
    destinations_.push_back({begin + static_cast<std::uint64_t>(a), runs.nbytes(), to.data() + b});
  });
}

void BoxReader::forget() noexcept {
  destinations_.clear();
  copies_.clear();
}

void BoxReader::finish() {
  restore::BlockReader(shard_, readers_, options_.verify).read(std::exchange(destinations_, {}));
  for (const auto& copy : std::exchange(copies_, {})) value::copy_strided(copy.from, copy.to);
}

}  // namespace understudy::parts
