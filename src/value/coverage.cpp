#include "value/coverage.h"

#include <algorithm>

namespace understudy::value {

Address Coverage::end() const noexcept {
  Address last = begin;
  for (const auto& d : dims) last += (d.count - 1) * d.stride;
  return last + run_nbytes;
}

std::uint64_t Coverage::run_count() const noexcept {
  std::uint64_t n = 1;
  for (const auto& d : dims) n *= d.count;
  return n;
}

Coverage cover(const Tensor& tensor) {
  Coverage c;
  const auto item = static_cast<std::int64_t>(item_size(tensor.dtype()));
  c.begin = reinterpret_cast<Address>(tensor.data());
  c.run_nbytes = static_cast<std::uint64_t>(item);
  if (tensor.is_contiguous()) {
    c.run_nbytes = tensor.nbytes();
    return c;
  }
  for (std::size_t d = 0; d < tensor.shape().size(); ++d) {
    const auto count = tensor.shape()[d];
    auto stride = tensor.strides()[d] * item;
    if (count == 1 || stride == 0) continue;
    if (stride < 0) {
      c.begin -= static_cast<std::uint64_t>(-stride * (count - 1));
      stride = -stride;
    }
    c.dims.push_back({static_cast<std::uint64_t>(count), static_cast<std::uint64_t>(stride)});
  }
  std::sort(c.dims.begin(), c.dims.end(),
            [](const auto& a, const auto& b) { return a.stride > b.stride; });
  // Steps no wider than the run leave no hole: together they are one run. This
  // takes sliding windows too.
  while (!c.dims.empty() && c.dims.back().stride <= c.run_nbytes) {
    c.run_nbytes += (c.dims.back().count - 1) * c.dims.back().stride;
    c.dims.pop_back();
  }
  for (std::size_t k = c.dims.size(); k-- > 1;) {
    auto& outer = c.dims[k - 1];
    const auto& inner = c.dims[k];
    if (outer.stride == inner.stride * inner.count) {
      outer = {outer.count * inner.count, inner.stride};
      c.dims.erase(c.dims.begin() + static_cast<std::ptrdiff_t>(k));
    }
  }
  std::uint64_t span = c.run_nbytes;
  for (std::size_t k = c.dims.size(); k-- > 0;) {
    if (c.dims[k].stride < span) c.is_regular = false;
    span += (c.dims[k].count - 1) * c.dims[k].stride;
  }
  return c;
}

void append_runs(const Coverage& coverage, std::vector<Interval>& runs) {
  std::vector<std::uint64_t> index(coverage.dims.size(), 0);
  for (auto left = coverage.run_count(); left > 0; --left) {
    Address at = coverage.begin;
    for (std::size_t k = 0; k < index.size(); ++k) at += index[k] * coverage.dims[k].stride;
    runs.push_back({at, at + coverage.run_nbytes});
    for (std::size_t k = index.size(); k-- > 0;) {
      if (++index[k] < coverage.dims[k].count) break;
      index[k] = 0;
    }
  }
}

void merge(std::vector<Interval>& runs) {
  std::sort(runs.begin(), runs.end(),
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::size_t kept = 0;
  for (const auto& run : runs) {
    if (kept > 0 && run.begin <= runs[kept - 1].end) {
      runs[kept - 1].end = std::max(runs[kept - 1].end, run.end);
    } else {
      runs[kept++] = run;
    }
  }
  runs.resize(kept);
}

}  // namespace understudy::value
