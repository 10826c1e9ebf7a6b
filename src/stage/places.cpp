#include "stage/places.h"

#include <algorithm>

namespace understudy::stage {

Places::Places(const std::vector<const Tensor*>& tensors, const value::Extents& extents)
    : spans_(extents.extents.size()) {
  leaves_.reserve(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto extent = extents.placements[i].extent;
    leaves_.push_back({tensors[i]->data(), extent});
    auto& span = spans_[extent];
    ++span.tensors;
    if (tensors[i]->nbytes() == 0) continue;
    const auto covered = value::cover(*tensors[i]);
    const bool is_first = span.bytes.begin == span.bytes.end;
    span.bytes = {is_first ? covered.begin : std::min(span.bytes.begin, covered.begin),
                  std::max(span.bytes.end, covered.end())};
  }
}

std::optional<std::vector<Places::Moved>> Places::move(std::span<const Move> moves) {
  std::vector<Moved> moved;
  auto spans = spans_;
  for (const auto& [leaf, address] : moves) {
    if (leaf >= leaves_.size()) return {};
    const auto extent = leaves_[leaf].extent;
    auto& span = spans[extent];
    if (span.tensors != 1) return {};
    const auto by = address - leaves_[leaf].address;
    span.bytes.begin += static_cast<value::Address>(by);
    span.bytes.end += static_cast<value::Address>(by);
    span.is_moved = true;
    moved.push_back({extent, by, span.bytes.end - span.bytes.begin});
  }
  if (!are_apart(spans)) return {};
  for (const auto& [leaf, address] : moves) leaves_[leaf].address = address;
  for (auto& span : spans) span.is_moved = false;
  spans_ = std::move(spans);
  return moved;
}

// Whether nothing overlaps what has moved.
bool Places::are_apart(std::vector<Span> spans) {
  std::erase_if(spans, [](const Span& s) { return s.bytes.begin == s.bytes.end; });
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.bytes.begin < b.bytes.begin; });
  value::Address end = 0, moved_end = 0;
  for (const auto& s : spans) {
    if (s.bytes.begin < (s.is_moved ? end : moved_end)) return false;
    end = std::max(end, s.bytes.end);
    if (s.is_moved) moved_end = std::max(moved_end, s.bytes.end);
  }
  return true;
}

}  // namespace understudy::stage
