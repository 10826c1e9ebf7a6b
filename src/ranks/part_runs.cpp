#include "ranks/part_runs.h"

#include <algorithm>
#include <cstring>

namespace understudy::ranks {

PartRuns::PartRuns(const Chunk& stored, const Chunk& wanted, const Chunk& part,
                   std::uint64_t item_nbytes)
    : run_nbytes_(item_nbytes) {
  auto from_stride = item_nbytes, to_stride = item_nbytes;
  bool is_run = true;
  for (std::size_t d = part.sizes.size(); d-- > 0;) {
    const auto size = static_cast<std::uint64_t>(part.sizes[d]);
    first_.from += from_stride * static_cast<std::uint64_t>(part.offsets[d] - stored.offsets[d]);
    first_.to += to_stride * static_cast<std::uint64_t>(part.offsets[d] - wanted.offsets[d]);
    if (is_run) {
      run_nbytes_ *= size;
    } else {
      outer_.push_back({size, from_stride, to_stride});
      count_ *= size;
    }
    is_run = is_run && part.sizes[d] == stored.sizes[d] && part.sizes[d] == wanted.sizes[d];
    from_stride *= static_cast<std::uint64_t>(stored.sizes[d]);
    to_stride *= static_cast<std::uint64_t>(wanted.sizes[d]);
  }
  std::ranges::reverse(outer_);
}

PartRuns::Run PartRuns::run(std::uint64_t number) const noexcept {
  auto run = first_;
  for (auto d = outer_.rbegin(); d != outer_.rend(); ++d) {
    const auto index = number % d->size;
    number /= d->size;
    run.from += index * d->from_stride;
    run.to += index * d->to_stride;
  }
  return run;
}

std::uint64_t PartRuns::first_behind(std::uint64_t from) const noexcept {
  std::uint64_t first = 0, behind = count_;  // runs ascend
  while (first < behind) {
    const auto middle = first + (behind - first) / 2;
    if (run(middle).from + run_nbytes_ > from) {
      behind = middle;
    } else {
      first = middle + 1;
    }
  }
  return first;
}

void PartRuns::copy(std::uint64_t from, std::span<const std::byte> bytes,
                    std::byte* wanted) const noexcept {
  const auto end = from + bytes.size();
  for (auto i = first_behind(from); i < count_; ++i) {
    const auto one = run(i);
    if (one.from >= end) return;
    const auto lo = std::max(from, one.from), hi = std::min(end, one.from + run_nbytes_);
    std::memcpy(wanted + one.to + (lo - one.from), bytes.data() + (lo - from), hi - lo);
  }
}

}  // namespace understudy::ranks
