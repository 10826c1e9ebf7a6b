#include "ranks/ranges.h"

#include "value/strided_copy.h"

namespace understudy::ranks {
namespace {

// The runs of a part, in order: `index` goes through the dimensions that a run does not cover.
class Runs {
 public:
  Runs(const Chunk& chunk, const Chunk& part, std::uint64_t item_nbytes)
      : part_(part), strides_(part.sizes.size()) {
    auto stride = item_nbytes;
    run_ = item_nbytes;
    bool is_dense = true;
    for (std::size_t d = part.sizes.size(); d-- > 0;) {
      strides_[d] = stride;
      begin_ += stride * static_cast<std::uint64_t>(part.offsets[d] - chunk.offsets[d]);
      stride *= static_cast<std::uint64_t>(chunk.sizes[d]);
      if (!is_dense) continue;
      outer_ = d;
      run_ *= static_cast<std::uint64_t>(part.sizes[d]);
      is_dense = part.sizes[d] == chunk.sizes[d];
    }
    index_.assign(outer_, 0);
  }

  std::uint64_t begin() const { return begin_; }
  std::uint64_t nbytes() const { return run_; }

  // False after the last one.
  bool advance() {
    for (std::size_t d = outer_; d-- > 0;) {
      begin_ += strides_[d];
      if (++index_[d] < part_.sizes[d]) return true;
      begin_ -= strides_[d] * static_cast<std::uint64_t>(part_.sizes[d]);
      index_[d] = 0;
    }
    return false;
  }

 private:
  const Chunk& part_;
  std::vector<std::uint64_t> strides_;  // bytes
  std::uint64_t begin_ = 0;
  std::uint64_t run_ = 0;
  std::size_t outer_ = 0;  // dimensions before those of a run
  Dims index_;
};

}  // namespace

std::vector<Part> parts_of(const Chunk& wanted, std::span<const Chunk> stored) {
  std::vector<Part> parts;
  if (is_empty(wanted)) return parts;
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (auto common = overlap(wanted, stored[i])) parts.push_back({i, std::move(*common)});
  }
  return parts;
}

std::vector<ByteRange> ranges_of(const Chunk& chunk, const Chunk& part, std::uint64_t item_nbytes,
                                 std::uint64_t base, std::uint64_t max_gap) {
  std::vector<ByteRange> ranges;
  if (is_empty(part)) return ranges;
  Runs runs(chunk, part, item_nbytes);
  do {
    const auto begin = base + runs.begin();
    if (!ranges.empty()) {
      auto& last = ranges.back();
      const auto gap = begin - (last.begin + last.nbytes);
      if (gap <= max_gap) {
        last.nbytes += gap + runs.nbytes();
        continue;
      }
    }
    ranges.push_back({begin, runs.nbytes()});
  } while (runs.advance());
  return ranges;
}

Tensor view_of(const Tensor& tensor, const Chunk& chunk, const Chunk& part) {
  auto offset = static_cast<std::int64_t>(tensor.byte_offset());
  const auto item = static_cast<std::int64_t>(item_size(tensor.dtype()));
  if (!is_empty(part)) {
    for (std::size_t d = 0; d < part.sizes.size(); ++d) {
      offset += (part.offsets[d] - chunk.offsets[d]) * tensor.strides()[d] * item;
    }
  }
  return {tensor.storage(), tensor.dtype(), part.sizes, tensor.strides(),
          static_cast<std::uint64_t>(offset)};
}

void copy_part(const Tensor& from, const Chunk& from_chunk, const Tensor& to, const Chunk& to_chunk,
               const Chunk& part) {
  value::copy_strided(view_of(from, from_chunk, part), view_of(to, to_chunk, part));
}

}  // namespace understudy::ranks
