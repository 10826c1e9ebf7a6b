#include "ranks/chunk.h"

#include <algorithm>

#include "base/checked.h"
#include "base/text.h"

namespace understudy::ranks {

Chunk whole(const Dims& shape) {
  return {Dims(shape.size(), 0), shape};
}

bool is_empty(const Chunk& chunk) noexcept {
  return std::ranges::find(chunk.sizes, 0) != chunk.sizes.end();
}

std::int64_t numel(const Chunk& chunk) noexcept {
  if (is_empty(chunk)) return 0;
  std::int64_t product = 1;
  for (const auto size : chunk.sizes) product *= size;
  return product;
}

std::optional<Chunk> overlap(const Chunk& a, const Chunk& b) {
  Chunk common{Dims(a.sizes.size()), Dims(a.sizes.size())};
  for (std::size_t d = 0; d < a.sizes.size(); ++d) {
    const auto begin = std::max(a.offsets[d], b.offsets[d]);
    const auto end = std::min(a.offsets[d] + a.sizes[d], b.offsets[d] + b.sizes[d]);
    if (begin >= end) return {};
    common.offsets[d] = begin;
    common.sizes[d] = end - begin;
  }
  return common;
}

std::string to_text(const Chunk& chunk) {
  std::string out = "[";
  for (std::size_t d = 0; d < chunk.sizes.size(); ++d) {
    out += format_text("{}{}:{}", d > 0 ? ", " : "", chunk.offsets[d],
                       chunk.offsets[d] + chunk.sizes[d]);
  }
  return out + "]";
}

std::string to_text(const Dims& shape) {
  std::string out = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) {
    out += format_text("{}{}", d > 0 ? ", " : "", shape[d]);
  }
  return out + "]";
}

std::optional<std::uint64_t> possible_nbytes(const Dims& shape, DType dtype) noexcept {
  if (shape.size() > kMaxDims) return {};
  if (std::ranges::any_of(shape, [](auto size) { return size < 0; })) return {};
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::optional<std::int64_t> product = static_cast<std::int64_t>(item_size(dtype));
  for (const auto size : shape) {
    product = checked_mul(*product, size);
    if (!product) return {};
  }
  return static_cast<std::uint64_t>(*product);
}

bool lies_within(const Chunk& chunk, const Dims& shape) noexcept {
  if (chunk.offsets.size() != shape.size() || chunk.sizes.size() != shape.size()) return false;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    if (chunk.offsets[d] < 0 || chunk.sizes[d] < 0) return false;
    const auto end = checked_add(chunk.offsets[d], chunk.sizes[d]);
    if (!end || *end > shape[d]) return false;
  }
  return true;
}

}  // namespace understudy::ranks
