// Whether chunks make up a tensor: as many elements as it has, and none of them twice.
//
// What programs cut, a grid say, falls apart at planes that no chunk crosses, again and again,
// until single chunks are left. What does not fall apart is compared, each with those that lie
// beside it along one dimension. A file can hold chunks for which both take long: hence the limit.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "ranks/chunk.h"

namespace understudy::ranks {
namespace {

// Steps that are spent on n chunks: what programs cut takes a few dozen for each.
constexpr std::uint64_t kStepsPerChunk = 200;
constexpr std::uint64_t kStepsInAll = 1'000'000;

class OverlapSearch {
 public:
  explicit OverlapSearch(std::span<const Chunk> chunks)
      : chunks_(chunks), steps_left_(kStepsInAll + kStepsPerChunk * chunks.size()) {
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      if (!is_empty(chunks[i])) order_.push_back(i);
    }
  }

  std::optional<CoverProblem> find() {
    if (!order_.empty()) groups_.emplace_back(0, order_.size());
    while (!groups_.empty()) {
      const auto [begin, end] = groups_.back();
      groups_.pop_back();
      if (end - begin == 1) continue;
      if (const auto problem = split_or_compare(begin, end)) return problem;
    }
    return {};
  }

 private:
  std::int64_t begin_of(std::size_t i, std::size_t dim) const { return chunks_[i].offsets[dim]; }
  std::int64_t end_of(std::size_t i, std::size_t dim) const {
    return chunks_[i].offsets[dim] + chunks_[i].sizes[dim];
  }

  bool spend(std::uint64_t steps) {
    if (steps > steps_left_) return false;
    steps_left_ -= steps;
    return true;
  }

  std::optional<CoverProblem> split_or_compare(std::size_t begin, std::size_t end) {
    const auto dims = chunks_[order_[begin]].sizes.size();
    std::size_t best = 0;
    std::uint64_t fewest = UINT64_MAX;
    for (std::size_t dim = 0; dim < dims; ++dim) {
      if (!spend(end - begin)) return CoverProblem{CoverProblem::Type::tangled};
      sort(begin, end, dim);
      if (split(begin, end, dim)) return {};
      const auto beside = count_beside(begin, end, dim);
      if (beside < fewest) best = dim, fewest = beside;
    }
    if (dims == 0) return overlapping(order_[begin], order_[begin + 1]);
    sort(begin, end, best);
    return compare(begin, end, best);
  }

  void sort(std::size_t begin, std::size_t end, std::size_t dim) {
    std::sort(order_.begin() + static_cast<std::ptrdiff_t>(begin),
              order_.begin() + static_cast<std::ptrdiff_t>(end), [&](auto a, auto b) {
                return std::pair(begin_of(a, dim), a) < std::pair(begin_of(b, dim), b);
              });
  }

  // At the planes of `dim` that none of them crosses; false when there is none.
  bool split(std::size_t begin, std::size_t end, std::size_t dim) {
    auto group = begin;
    auto reach = end_of(order_[begin], dim);
    for (auto i = begin + 1; i < end; ++i) {
      if (begin_of(order_[i], dim) >= reach) {
        groups_.emplace_back(group, i);
        group = i;
      }
      reach = std::max(reach, end_of(order_[i], dim));
    }
    if (group == begin) return false;
    groups_.emplace_back(group, end);
    return true;
  }

  // About how many pairs lie beside each other along `dim`: all that begin at one place do.
  std::uint64_t count_beside(std::size_t begin, std::size_t end, std::size_t dim) const {
    std::uint64_t pairs = 0, run = 0;
    for (auto i = begin + 1; i < end; ++i) {
      run = begin_of(order_[i], dim) == begin_of(order_[i - 1], dim) ? run + 1 : 0;
      pairs += run;
    }
    return pairs;
  }

  std::optional<CoverProblem> compare(std::size_t begin, std::size_t end, std::size_t dim) {
    std::vector<std::size_t> open;  // that reach beyond where the next begins
    for (auto i = begin; i < end; ++i) {
      const auto now = order_[i];
      if (!spend(open.size() + 1)) return CoverProblem{CoverProblem::Type::tangled};
      std::erase_if(open, [&](auto other) { return end_of(other, dim) <= begin_of(now, dim); });
      for (const auto other : open) {
        if (overlap(chunks_[other], chunks_[now])) return overlapping(other, now);
      }
      open.push_back(now);
    }
    return {};
  }

  static CoverProblem overlapping(std::size_t a, std::size_t b) {
    return {CoverProblem::Type::overlap, std::min(a, b), std::max(a, b), 0};
  }

  std::span<const Chunk> chunks_;
  std::vector<std::size_t> order_;
  std::vector<std::pair<std::size_t, std::size_t>> groups_;  // ranges of order_
  std::uint64_t steps_left_;
};

}  // namespace

std::optional<CoverProblem> find_cover_problem(const Dims& shape, std::span<const Chunk> chunks) {
  if (auto problem = OverlapSearch(chunks).find()) return problem;
  // Without overlaps the sum is no more than the tensor has.
  const auto covered = std::accumulate(
      chunks.begin(), chunks.end(), std::uint64_t{0},
      [](auto sum, const Chunk& chunk) { return sum + static_cast<std::uint64_t>(numel(chunk)); });
  const auto all = static_cast<std::uint64_t>(numel(whole(shape)));
  if (covered < all) return CoverProblem{CoverProblem::Type::hole, 0, 0, all - covered};
  return {};
}

}  // namespace understudy::ranks
