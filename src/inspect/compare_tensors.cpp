#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "inspect/compare.h"
#include "inspect/numbers.h"

namespace understudy::inspect {
namespace {

// Stays in the second-level cache, and is a multiple of every item size.
constexpr std::uint64_t kChunkNbytes = std::uint64_t{256} << 10;

struct Tally {
  std::uint64_t differing = 0;
  std::uint64_t first = 0;
  std::uint64_t measured = 0;  ///< of the differing ones, those with a distance
  double largest = 0;
};

void count(DType dtype, std::uint64_t first_element, std::span<const std::byte> a,
           std::span<const std::byte> b, Tally& tally) {
  const auto item = item_size(dtype);
  for (std::size_t at = 0; at < a.size(); at += item) {
    if (std::memcmp(a.data() + at, b.data() + at, item) == 0) continue;
    if (tally.differing++ == 0) tally.first = first_element + at / item;
    if (const auto d = distance(dtype, a.data() + at, b.data() + at)) {
      ++tally.measured;
      tally.largest = std::max(tally.largest, *d);
    }
  }
}

Dims index_of(std::uint64_t element, const Dims& shape) {
  Dims index(shape.size());
  for (std::size_t d = shape.size(); d-- > 0;) {
    const auto n = static_cast<std::uint64_t>(shape[d]);
    index[d] = static_cast<std::int64_t>(element % n);
    element /= n;
  }
  return index;
}

}  // namespace

std::string compare_tensors(const Tensor& a, const Gather& gather_a, const Tensor& b,
                            const Gather& gather_b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) {
    return fmt::format("{} of shape {} in the first, {} of shape {} in the second", name(a.dtype()),
                       dims_text(a.shape()), name(b.dtype()), dims_text(b.shape()));
  }
  std::vector<std::byte> chunk_a(std::min(kChunkNbytes, a.nbytes())), chunk_b(chunk_a.size());
  Tally tally;
  for (std::uint64_t begin = 0; begin < a.nbytes(); begin += kChunkNbytes) {
    const auto n = std::min(kChunkNbytes, a.nbytes() - begin);
    const auto bytes_a = std::span(chunk_a).first(n), bytes_b = std::span(chunk_b).first(n);
    gather_a(a, begin, bytes_a);
    gather_b(b, begin, bytes_b);
    if (std::memcmp(bytes_a.data(), bytes_b.data(), n) == 0) continue;
    count(a.dtype(), begin / item_size(a.dtype()), bytes_a, bytes_b, tally);
  }
  if (tally.differing == 0) return {};
  auto text = a.shape().empty()
                  ? std::string("the element differs")
                  : fmt::format("{} of {} elements differ, the first at {}", tally.differing,
                                a.numel(), dims_text(index_of(tally.first, a.shape())));
  if (tally.measured > 0) text += fmt::format("; the largest difference is {:.6g}", tally.largest);
  return text;
}

}  // namespace understudy::inspect
