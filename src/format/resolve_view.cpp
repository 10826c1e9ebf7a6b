#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "format/text.h"
#include "format/tree.h"

namespace understudy::format {
namespace {

// The tensor that an entry is by itself.
void fill_in(View& view, const Entry& entry, std::string_view file) {
  const auto dtype = dtype_from_safetensors(entry.dtype);
  view.shape.clear();
  for (const auto dim : entry.shape) view.shape.push_back(static_cast<std::int64_t>(dim));
  const auto components = dtype ? info(*dtype).components : 1;
  if (!dtype || (components != 1 && (view.shape.empty() || view.shape.back() % components != 0))) {
    fail(ErrorCode::unsupported, "{}: entry {} of type {} cannot be a tensor", file,
         in_quotes(entry.name), entry.dtype);
  }
  if (components != 1) view.shape.back() /= components;
  if (view.shape.size() > kMaxDims) {
    fail(ErrorCode::unsupported, "{}: entry {} has more than {} dimensions", file,
         in_quotes(entry.name), kMaxDims);
  }
  view.dtype = *dtype;
  view.strides = contiguous_strides(view.shape);
  view.byte_offset = 0;
}

// Where the first and the one after the last byte lie, or nothing when it
// cannot be said in 64 bits.
struct Reach {
  std::int64_t low;
  std::int64_t high;
};

std::optional<Reach> reach_of(const View& view, const Dims& strides) {
  const auto item = static_cast<std::int64_t>(item_size(view.dtype));
  std::optional<std::int64_t> low = 0;
  std::optional<std::int64_t> high = item;
  std::optional<std::int64_t> total = item;
  bool is_empty = false;
  for (std::size_t i = 0; i < view.shape.size(); ++i) {
    const auto dim = view.shape[i];
    if (dim < 0) return {};
    is_empty |= dim == 0;
    if (dim == 0) continue;
    total = checked_mul(*total, dim);
    const auto step = checked_mul(strides[i], item);
    const auto way = step ? checked_mul(*step, dim - 1) : std::nullopt;
    if (!total || !way) return {};
    auto& end = *way < 0 ? low : high;
    end = checked_add(*end, *way);
    if (!end) return {};
  }
  if (is_empty) return Reach{0, 0};
  return Reach{*low, *high};
}

bool lies_within(const View& view, const Dims& strides, std::uint64_t byte_offset,
                 std::uint64_t nbytes) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (view.shape.size() != strides.size() || byte_offset > nbytes || nbytes > kMost) {
    return false;
  }
  const auto reach = reach_of(view, strides);
  if (!reach) return false;
  const auto begin = checked_add(static_cast<std::int64_t>(byte_offset), reach->low);
  const auto end = checked_add(static_cast<std::int64_t>(byte_offset), reach->high);
  return begin && end && *begin >= 0 && *end <= static_cast<std::int64_t>(nbytes);
}

}  // namespace

void resolve_view(View& view, std::span<const Entry> entries, std::string_view file) {
  if (view.entry >= entries.size()) {
    fail(ErrorCode::corrupt, "{}: the tree names entry {} of {}", file, view.entry, entries.size());
  }
  const auto& entry = entries[view.entry];
  if (view.is_entry) fill_in(view, entry, file);
  if (!lies_within(view, view.strides, view.byte_offset, entry.nbytes())) {
    fail(ErrorCode::corrupt, "{}: a tensor in the tree does not lie within entry {} of {} bytes",
         file, in_quotes(entry.name), entry.nbytes());
  }
  if (const auto& m = view.in_memory) {
    if (!lies_within(view, m->strides, m->byte_offset, m->run_nbytes) || view.byte_offset != 0 ||
        view.strides != contiguous_strides(view.shape)) {
      fail(
          ErrorCode::corrupt,
          "{}: a tensor in the tree, which is entry {}, does not lie within its run of {} bytes of "
          "memory",
          file, in_quotes(entry.name), m->run_nbytes);
    }
  }
}

}  // namespace understudy::format
