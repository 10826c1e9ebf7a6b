// Ways to cut a tensor up, and tensors whose elements tell where they belong.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "ranks/chunk.h"

namespace understudy::ranks {

using Random = std::mt19937_64;

inline std::int64_t below(Random& random, std::int64_t end) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
}

/// For each rank its chunk; some are equal (replicas), some empty.
using Placement = std::vector<Chunk>;

/// As torch cuts a dimension for `count` ranks: the first ones get the rounded-up share, the next
/// ones what is left, the last ones nothing.
inline void cut(Chunk& chunk, std::size_t dim, std::int64_t count, std::int64_t index) {
  const auto size = chunk.sizes[dim];
  const auto share = (size + count - 1) / count;
  const auto begin = std::min(size, share * index);
  chunk.offsets[dim] += begin;
  chunk.sizes[dim] = std::min(size, begin + share) - begin;
}

/// A mesh of one or two dimensions; each cuts one dimension of the tensor, or replicates.
inline Placement random_mesh(const Dims& shape, Random& random) {
  const std::int64_t rows = 1 + below(random, 4), columns = 1 + below(random, 4);
  const auto choice = [&] {
    return below(random, static_cast<std::int64_t>(shape.size()) + 1) - 1;
  };
  const auto by_row = choice(), by_column = choice();
  Placement placement;
  for (std::int64_t rank = 0; rank < rows * columns; ++rank) {
    auto chunk = whole(shape);
    if (by_row >= 0) cut(chunk, static_cast<std::size_t>(by_row), rows, rank / columns);
    if (by_column >= 0) cut(chunk, static_cast<std::size_t>(by_column), columns, rank % columns);
    placement.push_back(chunk);
  }
  return placement;
}

/// Cut in two at random places, again and again.
inline Placement random_cuts(const Dims& shape, Random& random) {
  Placement placement{whole(shape)};
  for (auto cuts = below(random, 9); cuts > 0 && !shape.empty(); --cuts) {
    auto& chunk = placement[static_cast<std::size_t>(below(random, std::ssize(placement)))];
    const auto dim = static_cast<std::size_t>(below(random, std::ssize(shape)));
    const auto at = below(random, chunk.sizes[dim] + 1);
    auto second = chunk;
    second.offsets[dim] += at;
    second.sizes[dim] -= at;
    chunk.sizes[dim] = at;
    placement.push_back(second);
  }
  return placement;
}

inline Placement random_placement(const Dims& shape, Random& random) {
  return random() % 2 == 0 ? random_mesh(shape, random) : random_cuts(shape, random);
}

/// 0 to 4 dimensions; now and then one is 0 or 1.
inline Dims random_shape(Random& random) {
  Dims shape(static_cast<std::size_t>(below(random, 5)));
  for (auto& size : shape) size = random() % 9 == 0 ? 0 : 1 + below(random, 9);
  return shape;
}

/// The chunks without empty ones and without repetitions: what is written.
inline std::vector<Chunk> written(const Placement& placement) {
  std::vector<Chunk> chunks;
  for (const auto& chunk : placement) {
    if (!is_empty(chunk) && std::ranges::find(chunks, chunk) == chunks.end()) {
      chunks.push_back(chunk);
    }
  }
  return chunks;
}

/// Calls `visit` with the index of each element of a chunk in the whole tensor, in C order.
template <class Visit>
void for_each_element(const Chunk& chunk, const Visit& visit) {
  if (is_empty(chunk)) return;
  auto index = chunk.offsets;
  for (;;) {
    visit(index);
    std::size_t d = index.size();
    while (d-- > 0) {
      if (++index[d] < chunk.offsets[d] + chunk.sizes[d]) break;
      index[d] = chunk.offsets[d];
    }
    if (d == static_cast<std::size_t>(-1)) return;
  }
}

/// The place of an element in the whole tensor, counted from 1.
inline std::int64_t number_of(const Dims& index, const Dims& shape) {
  std::int64_t number = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) number = number * shape[d] + index[d];
  return number + 1;
}

/// The numbers of a chunk's elements, dense.
inline std::vector<std::int64_t> numbers_of(const Chunk& chunk, const Dims& shape) {
  std::vector<std::int64_t> numbers;
  for_each_element(chunk, [&](const Dims& index) { numbers.push_back(number_of(index, shape)); });
  return numbers;
}

}  // namespace understudy::ranks
