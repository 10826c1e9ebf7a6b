#include "value/strided_copy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace understudy::value {
namespace {

template <std::size_t kNbytes>
void copy_tiles(const std::byte* from, std::byte* to, const CopyDim& outer, const CopyDim& inner) {
  // As many rows as a cache set has ways: rows that are a power of two apart share one.
  constexpr std::int64_t kTile = 8;
  for (std::int64_t begin = 0; begin < outer.count; begin += kTile) {
    const auto end = std::min(begin + kTile, outer.count);
    for (std::int64_t i = 0; i < inner.count; ++i) {
      const auto* source = from + i * inner.from_stride;
      auto* target = to + i * inner.to_stride;
      for (auto o = begin; o < end; ++o) {
        std::memcpy(target + o * outer.to_stride, source + o * outer.from_stride, kNbytes);
      }
    }
  }
}

// The dimensions of a copy, without those of one element, and joined where both sides allow it.
std::vector<CopyDim> dims_of(const Tensor& from, const Tensor& to) {
  const auto item = static_cast<std::int64_t>(item_size(from.dtype()));
  std::vector<CopyDim> dims;
  for (std::size_t d = 0; d < from.shape().size(); ++d) {
    const CopyDim dim{from.shape()[d], from.strides()[d] * item, to.strides()[d] * item};
    if (dim.count == 1) continue;
    if (!dims.empty() && dims.back().from_stride == dim.from_stride * dim.count &&
        dims.back().to_stride == dim.to_stride * dim.count) {
      dims.back() = {dims.back().count * dim.count, dim.from_stride, dim.to_stride};
    } else {
      dims.push_back(dim);
    }
  }
  return dims;
}

// The dimension along which one side lies closest together.
template <class Stride>
std::size_t closest(const std::vector<CopyDim>& dims, Stride stride) {
  std::size_t best = 0;
  for (std::size_t d = 1; d < dims.size(); ++d) {
    if (std::abs(dims[d].*stride) <= std::abs(dims[best].*stride)) best = d;
  }
  return best;
}

}  // namespace

void copy_items(std::uint64_t item_nbytes, const std::byte* from, std::byte* to,
                const CopyDim& outer, const CopyDim& inner) {
  switch (item_nbytes) {
    case 1: return copy_tiles<1>(from, to, outer, inner);
    case 2: return copy_tiles<2>(from, to, outer, inner);
    case 4: return copy_tiles<4>(from, to, outer, inner);
    case 8: return copy_tiles<8>(from, to, outer, inner);
    default: return copy_tiles<16>(from, to, outer, inner);
  }
}

void copy_strided(const Tensor& from, const Tensor& to) {
  if (from.numel() == 0) return;
  const auto item = item_size(from.dtype());
  auto dims = dims_of(from, to);
  // The two innermost loops: along the source's runs and along the target's.
  CopyDim outer{1, 0, 0}, inner{1, 0, 0};
  const auto take = [&](std::size_t d) {
    const auto dim = dims[d];
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(d));
    return dim;
  };
  if (!dims.empty()) inner = take(closest(dims, &CopyDim::to_stride));
  if (!dims.empty()) outer = take(closest(dims, &CopyDim::from_stride));
  const auto step = static_cast<std::int64_t>(item);
  const bool is_run = inner.from_stride == step && inner.to_stride == step;
  std::vector<std::int64_t> index(dims.size(), 0);
  const auto* source = from.data();
  auto* target = to.data();
  for (;;) {
    if (is_run) {
      for (std::int64_t o = 0; o < outer.count; ++o) {
        std::memcpy(target + o * outer.to_stride, source + o * outer.from_stride,
                    static_cast<std::size_t>(inner.count) * item);
      }
    } else {
      copy_items(item, source, target, outer, inner);
    }
    std::size_t d = dims.size();
    while (d-- > 0) {
      source += dims[d].from_stride;
      target += dims[d].to_stride;
      if (++index[d] < dims[d].count) break;
      source -= dims[d].from_stride * dims[d].count;
      target -= dims[d].to_stride * dims[d].count;
      index[d] = 0;
    }
    if (d == static_cast<std::size_t>(-1)) return;
  }
}

}  // namespace understudy::value
