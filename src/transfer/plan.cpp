#include "transfer/plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "value/strided_copy.h"

namespace understudy::transfer {
namespace {

// Work is shared out in pieces of this size: large enough that handing one out
// costs nothing, small enough that threads end together.
constexpr std::uint64_t kPieceNbytes = std::uint64_t{1} << 20;

// How many whole rows (the last dimension) of `copy`, of which the first goes to `to`, end by `hi`.
// They are dense at the destination.
std::int64_t whole_rows(const value::Copy& copy, const std::vector<std::int64_t>& index,
                        std::uint64_t to, std::uint64_t hi) {
  const auto dims = copy.counts.size();
  const auto run = static_cast<std::int64_t>(copy.run_nbytes);
  if (dims == 0 || index[dims - 1] != 0 || copy.destination_strides[dims - 1] != run) return 0;
  const auto row_nbytes = copy.counts[dims - 1] * run;
  const auto fitting = static_cast<std::int64_t>(hi - to) / row_nbytes;
  if (dims == 1) return std::min<std::int64_t>(fitting, 1);
  if (copy.destination_strides[dims - 2] != row_nbytes) return std::min<std::int64_t>(fitting, 1);
  return std::min(fitting, copy.counts[dims - 2] - index[dims - 2]);
}

// Copies the part of `copy` that lies in [lo, hi) of its extent; `out` is
// where byte lo goes.
void copy_clipped(const value::Copy& copy, std::uint64_t lo, std::uint64_t hi, std::byte* out) {
  const auto dims = copy.counts.size();
  std::vector<std::int64_t> index(dims, 0);
  // The last run that begins at or before lo.
  auto offset = static_cast<std::int64_t>(lo) - static_cast<std::int64_t>(copy.destination);
  for (std::size_t k = 0; k < dims && offset > 0; ++k) {
    index[k] = std::min(offset / copy.destination_strides[k], copy.counts[k] - 1);
    offset -= index[k] * copy.destination_strides[k];
  }
  const bool are_items = copy.run_nbytes <= 16 && std::has_single_bit(copy.run_nbytes);
  for (;;) {
    auto to = copy.destination;
    auto* from = copy.source;
    for (std::size_t k = 0; k < dims; ++k) {
      to += static_cast<std::uint64_t>(index[k] * copy.destination_strides[k]);
      from += index[k] * copy.source_strides[k];
    }
    if (to >= hi) return;
    const auto rows = are_items && to >= lo ? whole_rows(copy, index, to, hi) : 0;
    std::size_t k = dims;
    if (rows > 0) {
      const auto run = static_cast<std::int64_t>(copy.run_nbytes);
      const value::CopyDim inner{copy.counts[dims - 1], copy.source_strides[dims - 1], run};
      value::copy_items(copy.run_nbytes, from, out + (to - lo),
                        {rows, dims > 1 ? copy.source_strides[dims - 2] : 0, inner.count * run},
                        inner);
      // On to the next row, or the one after the last.
      index[dims - 1] = copy.counts[dims - 1] - 1;
      if (dims > 1) index[dims - 2] += rows - 1;
    } else {
      const auto begin = std::max(to, lo);
      const auto end = std::min(to + copy.run_nbytes, hi);
      if (begin < end) std::memcpy(out + (begin - lo), from + (begin - to), end - begin);
    }
    while (k-- > 0) {
      if (++index[k] < copy.counts[k]) break;
      index[k] = 0;
    }
    if (k == static_cast<std::size_t>(-1)) return;
  }
}

}  // namespace

Plan::Plan(const format::Layout& layout, value::Extents extents)
    : data_nbytes_(layout.data_nbytes) {
  segments_.reserve(extents.extents.size() + layout.blob_offsets.size());
  extent_segments_.assign(extents.extents.size(), kNone);
  std::vector<std::size_t> extent_of;  // of each segment, until they are sorted
  for (std::size_t i = 0; i < extents.extents.size(); ++i) {
    auto& e = extents.extents[i];
    if (e.nbytes == 0) continue;
    Segment s{layout.extent_offsets[i], e.nbytes, nullptr, e.has_gaps, {}, false};
    if (e.copies.size() == 1 && e.copies[0].run_nbytes == e.nbytes) {
      s.source = e.copies[0].source;
    } else {
      s.copies = std::move(e.copies);
    }
    extent_of.push_back(i);
    segments_.push_back(std::move(s));
  }
  const auto tensors = segments_.size();
  for (std::size_t b = 0; b < layout.blob_offsets.size(); ++b) {
    const auto& entry = layout.entries[layout.leaves.blobs[b].entry];
    segments_.push_back({layout.blob_offsets[b], entry.nbytes(), nullptr, false, {}, true});
  }
  std::vector<std::size_t> order(segments_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return segments_[a].begin < segments_[b].begin; });
  blob_segments_.resize(layout.blob_offsets.size());
  std::vector<Segment> sorted;
  sorted.reserve(order.size());
  for (const auto i : order) {
    if (i >= tensors) {
      blob_segments_[i - tensors] = sorted.size();
    } else {
      extent_segments_[extent_of[i]] = sorted.size();
    }
    sorted.push_back(std::move(segments_[i]));
  }
  segments_ = std::move(sorted);
}

void Plan::set_blobs(std::vector<std::string> blobs) {
  blobs_ = std::move(blobs);
  for (std::size_t b = 0; b < blobs_.size(); ++b) {
    segments_[blob_segments_[b]].source = reinterpret_cast<const std::byte*>(blobs_[b].data());
  }
}

void Plan::move_extent(std::uint32_t extent, std::ptrdiff_t by_nbytes) {
  if (extent_segments_[extent] == kNone) return;
  auto& segment = segments_[extent_segments_[extent]];
  if (segment.source != nullptr) segment.source += by_nbytes;
  for (auto& copy : segment.copies) copy.source += by_nbytes;
}

void Plan::fill(std::uint64_t begin, std::span<std::byte> out, bool zero_gaps) const {
  BulkCopy bulk(out.size());
  fill(begin, out, zero_gaps, bulk);
}

void Plan::fill(std::uint64_t begin, std::span<std::byte> out, bool zero_gaps,
                BulkCopy& bulk) const {
  const auto end = begin + out.size();
  auto s = std::upper_bound(segments_.begin(), segments_.end(), begin,
                            [](std::uint64_t at, const Segment& x) { return at < x.begin; });
  if (s != segments_.begin()) --s;
  for (; s != segments_.end() && s->begin < end; ++s) {
    const auto lo = std::max(begin, s->begin), hi = std::min(end, s->begin + s->nbytes);
    if (lo >= hi) continue;
    auto* to = out.data() + (lo - begin);
    if (s->copies.empty()) {
      bulk.copy(to, s->source + (lo - s->begin), hi - lo);
      continue;
    }
    if (s->has_gaps && zero_gaps) std::memset(to, 0, hi - lo);
    for (const auto& copy : s->copies) copy_clipped(copy, lo - s->begin, hi - s->begin, to);
  }
}

void Plan::fill_all(std::byte* out, bool zero_gaps, WorkerPool& workers) const {
  fill_ranges({{0, data_nbytes_}}, out, zero_gaps, workers);
}

void Plan::fill_ranges(const std::vector<DataRange>& ranges, std::byte* out, bool zero_gaps,
                       WorkerPool& workers) const {
  // Small ranges are handed out together, large ones in pieces.
  std::vector<DataRange> pieces;
  std::vector<std::size_t> first{0};  // of each job, into pieces
  std::uint64_t open_nbytes = 0, total_nbytes = 0;
  for (const auto& range : ranges) {
    total_nbytes += range.nbytes;
    for (std::uint64_t at = 0; at < range.nbytes; at += kPieceNbytes) {
      const auto nbytes = std::min(kPieceNbytes, range.nbytes - at);
      if (open_nbytes + nbytes > kPieceNbytes) {
        first.push_back(pieces.size());
        open_nbytes = 0;
      }
      pieces.push_back({range.begin + at, nbytes});
      open_nbytes += nbytes;
    }
  }
  if (pieces.empty()) return;
  first.push_back(pieces.size());
  workers.run(first.size() - 1, [&](std::uint64_t job, int) {
    BulkCopy bulk(total_nbytes);
    for (auto i = first[job]; i < first[job + 1]; ++i) {
      fill(pieces[i].begin, {out + pieces[i].begin, pieces[i].nbytes}, zero_gaps, bulk);
    }
  });
}

std::vector<Plan::Run> Plan::tensor_runs() const {
  std::vector<Run> runs;
  for (const auto& s : segments_) {
    if (!s.is_blob && s.copies.empty()) runs.push_back({s.source, {s.begin, s.nbytes}});
  }
  return runs;
}

}  // namespace understudy::transfer
