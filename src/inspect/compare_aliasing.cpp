#include <fmt/format.h>

#include "inspect/compare.h"
#include "value/extents.h"

namespace understudy::inspect {
namespace {

/// Who shares bytes with whom in one state. Every group is known by its first
/// member.
class Sharing {
 public:
  explicit Sharing(const std::vector<const Tensor*>& tensors)
      : tensors_(tensors), extents_(value::find_extents(tensors)) {
    std::vector<std::size_t> first_of(extents_.extents.size(), tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      auto& first = first_of[extents_.placements[i].extent];
      if (first == tensors.size()) first = i;
      first_.push_back(first);
    }
  }

  std::size_t first(std::size_t i) const { return first_[i]; }

  /// True when tensor `i` lies to its first as it does in `other`.
  bool is_placed_as_in(const Sharing& other, std::size_t i) const {
    if (offset(i) != other.offset(i)) return false;
    const auto& shape = tensors_[i]->shape();
    for (std::size_t d = 0; d < shape.size(); ++d) {
      // The stride of a single element says nothing.
      if (shape[d] > 1 && stride(i, d) != other.stride(i, d)) return false;
    }
    return true;
  }

 private:
  std::int64_t offset(std::size_t i) const {
    return static_cast<std::int64_t>(extents_.placements[i].byte_offset) -
           static_cast<std::int64_t>(extents_.placements[first_[i]].byte_offset);
  }
  std::int64_t stride(std::size_t i, std::size_t d) const {
    return extents_.placements[i].strides[d];
  }

  const std::vector<const Tensor*>& tensors_;
  value::Extents extents_;
  std::vector<std::size_t> first_;
};

}  // namespace

void compare_aliasing(const std::vector<MatchedTensors>& all,
                      std::vector<Difference>& differences) {
  // What already differs in shape or type cannot be compared further.
  std::vector<const MatchedTensors*> same;
  std::vector<const Tensor*> tensors_a, tensors_b;
  for (const auto& pair : all) {
    if (pair.a->dtype() != pair.b->dtype() || pair.a->shape() != pair.b->shape()) continue;
    same.push_back(&pair);
    tensors_a.push_back(pair.a);
    tensors_b.push_back(pair.b);
  }
  const Sharing a(tensors_a), b(tensors_b);
  const auto partner = [&](const Sharing& sharing, std::size_t i) {
    return sharing.first(i) == i ? std::string("none before it")
                                 : fmt::format("'{}'", same[sharing.first(i)]->path);
  };
  for (std::size_t i = 0; i < same.size(); ++i) {
    if (a.first(i) != b.first(i)) {
      differences.push_back(
          {same[i]->path, fmt::format("shares bytes with {} in the first, with {} in the second",
                                      partner(a, i), partner(b, i))});
    } else if (a.first(i) != i && !a.is_placed_as_in(b, i)) {
      differences.push_back(
          {same[i]->path, fmt::format("shares other bytes of '{}' in the second than in the first",
                                      same[a.first(i)]->path)});
    }
  }
}

}  // namespace understudy::inspect
