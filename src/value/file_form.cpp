#include "value/file_form.h"

#include <algorithm>
#include <utility>

#include "value/coverage.h"

namespace understudy::value {
namespace {

// Runs of `tensor` in C order, densely from the start of an extent of its own.
Copy dense_copy(const Tensor& tensor) {
  const auto item = static_cast<std::int64_t>(item_size(tensor.dtype()));
  Copy copy;
  copy.source = const_cast<std::byte*>(tensor.data());
  copy.run_nbytes = static_cast<std::uint64_t>(item);
  const auto& shape = tensor.shape();
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (shape[d] == 1) continue;
    const auto stride = tensor.strides()[d] * item;
    if (!copy.counts.empty() && copy.source_strides.back() == stride * shape[d]) {
      copy.counts.back() *= shape[d];
      copy.source_strides.back() = stride;
    } else {
      copy.counts.push_back(shape[d]);
      copy.source_strides.push_back(stride);
    }
  }
  if (!copy.counts.empty() && copy.source_strides.back() == item) {
    copy.run_nbytes *= static_cast<std::uint64_t>(copy.counts.back());
    copy.counts.pop_back();
    copy.source_strides.pop_back();
  }
  copy.destination_strides.resize(copy.counts.size());
  auto step = static_cast<std::int64_t>(copy.run_nbytes);
  for (std::size_t k = copy.counts.size(); k-- > 0;) {
    copy.destination_strides[k] = step;
    step *= copy.counts[k];
  }
  return copy;
}

bool has_a_byte_twice(const Tensor& tensor) {
  const auto coverage = cover(tensor);
  return !coverage.is_regular || coverage.used_nbytes() != tensor.nbytes();
}

class Maker {
 public:
  Maker(const std::vector<const Tensor*>& tensors, Extents extents)
      : tensors_(tensors), old_(std::move(extents)), groups_(old_.extents.size()) {}

  FileForm make() {
    for (std::uint32_t t = 0; t < tensors_.size(); ++t) add_to_group(t);
    result_.in_memory.resize(tensors_.size());
    result_.extents.placements = old_.placements;
    // By first appearance, as find_extents has them.
    for (std::uint32_t t = 0; t < tensors_.size(); ++t) place(t);
    return std::move(result_);
  }

 private:
  static constexpr std::uint32_t kNone = ~0u;

  // A tensor over an extent, and those that are equal to it.
  struct View {
    std::uint32_t first;
    std::uint32_t extent = kNone;  // of the file
  };
  struct Group {
    std::vector<View> views;
    std::uint32_t run = kNone;     // of memory, once it is split
    std::uint32_t extent = kNone;  // of the file, where it is not
    bool is_decided = false;
    bool is_split = false;
  };

  bool are_equal(std::uint32_t a, std::uint32_t b) const {
    return tensors_[a]->dtype() == tensors_[b]->dtype() &&
           tensors_[a]->shape() == tensors_[b]->shape() &&
           old_.placements[a].byte_offset == old_.placements[b].byte_offset &&
           old_.placements[a].strides == old_.placements[b].strides;
  }

  View* find(Group& group, std::uint32_t t) const {
    const auto it = std::find_if(group.views.begin(), group.views.end(),
                                 [&](const View& v) { return are_equal(v.first, t); });
    return it == group.views.end() ? nullptr : &*it;
  }

  void add_to_group(std::uint32_t t) {
    auto& group = groups_[old_.placements[t].extent];
    if (group.is_decided || find(group, t) != nullptr) return;
    group.views.push_back({t});
    // More views than that are windows: kept as they lie, and not compared with each other.
    constexpr std::size_t kMaxViews = 64;
    group.is_decided = group.views.size() > kMaxViews;
  }

  bool should_split(const Group& group, const Extent& extent) const {
    if (group.views.size() == 1 && old_.placements[group.views[0].first].covers) return false;
    std::uint64_t nbytes = 0;
    for (const auto& view : group.views) {
      const auto& tensor = *tensors_[view.first];
      if (tensor.numel() == 0 || has_a_byte_twice(tensor)) return false;
      nbytes += tensor.nbytes();
    }
    return nbytes / kMaxGrowth <= extent.nbytes && extent.nbytes / kMaxGaps <= nbytes;
  }

  void place(std::uint32_t t) {
    const auto& was = old_.placements[t];
    auto& group = groups_[was.extent];
    auto& extent = old_.extents[was.extent];
    if (!group.is_decided) {
      group.is_decided = true;
      group.is_split = should_split(group, extent);
      if (group.is_split) group.run = next_run_++;
    }
    auto& placement = result_.extents.placements[t];
    if (!group.is_split) {
      if (group.extent == kNone) group.extent = add(std::exchange(extent, {}));
      placement.extent = group.extent;
      return;
    }
    auto& view = *find(group, t);
    if (view.extent == kNone) view.extent = add(extent_of(*tensors_[t]));
    placement = {view.extent, true, 0, contiguous_strides(tensors_[t]->shape())};
    result_.in_memory[t] = {group.run, extent.nbytes, was.strides, was.byte_offset};
  }

  static Extent extent_of(const Tensor& tensor) {
    Extent extent;
    extent.nbytes = tensor.nbytes();
    extent.alignment = static_cast<std::uint32_t>(item_size(tensor.dtype()));
    extent.copies.push_back(dense_copy(tensor));
    return extent;
  }

  std::uint32_t add(Extent extent) {
    result_.extents.extents.push_back(std::move(extent));
    return static_cast<std::uint32_t>(result_.extents.extents.size() - 1);
  }

  const std::vector<const Tensor*>& tensors_;
  Extents old_;
  std::vector<Group> groups_;  // by extent in memory
  FileForm result_;
  std::uint32_t next_run_ = 0;
};

}  // namespace

FileForm file_form(const std::vector<const Tensor*>& tensors, Extents extents) {
  return Maker(tensors, std::move(extents)).make();
}

}  // namespace understudy::value
