// A step that several ranks, which are threads, have saved together.
#pragma once

#include <cstdint>
#include <vector>

#include "fakes/ranks_run.h"
#include "understudy/chunk.h"

namespace understudy::fakes {

/// Saves `states`, by rank.
inline void save_by_ranks(const TemporaryFolder& folder, std::int64_t step,
                          const std::vector<Value>& states, const SaveOptions& how = {}) {
  MeetingPlace place(static_cast<int>(states.size()));
  place.run([&](Peers& peers) {
    Checkpointer checkpointer(options_of(folder, peers));
    checkpointer.save(step, states[static_cast<std::size_t>(peers.rank())], how).wait();
    checkpointer.close();
  });
}

/// What rank `rank` of `count` has of `tensor` when it is cut along `dim` as evenly as may be, the
/// first ranks having the larger parts.
inline Value part_of(const Tensor& tensor, std::size_t dim, int rank, int count) {
  const auto size = tensor.shape()[dim];
  const auto begin = [&](std::int64_t r) { return r * (size / count) + std::min(r, size % count); };
  Dims offsets(tensor.shape().size()), shape = tensor.shape();
  offsets[dim] = begin(rank);
  shape[dim] = begin(rank + 1) - begin(rank);
  const auto stride = static_cast<std::uint64_t>(tensor.strides()[dim]);
  const auto first = static_cast<std::uint64_t>(offsets[dim]) * stride * item_size(tensor.dtype());
  return chunk(Tensor(tensor.storage(), tensor.dtype(), shape, tensor.strides(),
                      tensor.byte_offset() + first),
               {tensor.shape(), offsets});
}

}  // namespace understudy::fakes
