#include "ranks/assignment.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "ranks/rank_names.h"

namespace understudy::ranks {
namespace {

// One tensor, as it is gathered from the ranks.
struct Gathered {
  const TensorOutline* first = nullptr;
  int first_rank = 0;
  std::vector<int> ranks;                     // that have the path
  std::map<Chunk, std::vector<int>> holders;  // of chunks with elements
};

class Planner {
 public:
  Assignment plan(std::span<const Outline> outlines) {
    for (std::size_t rank = 0; rank < outlines.size(); ++rank) {
      for (const auto& tensor : outlines[rank].tensors) gather(tensor, static_cast<int>(rank));
    }
    Assignment assignment;
    assignment.nbytes.assign(outlines.size(), 0);
    for (const auto& tensor : tensors_) assignment.tensors.push_back(make(tensor));
    require_possible(assignment);
    choose_writers(assignment);
    follow_shared(assignment);
    return assignment;
  }

 private:
  void gather(const TensorOutline& outline, int rank) {
    const auto [place, is_new] = by_path_.try_emplace(outline.path, tensors_.size());
    if (is_new) {
      tensors_.push_back({&outline, rank, {}, {}});
      if (!possible_nbytes(outline.shape, outline.dtype)) {
        fail(ErrorCode::invalid, "'{}' on rank {} has a shape that no tensor can have: {}",
             outline.path, rank, to_text(outline.shape));
      }
    }
    auto& tensor = tensors_[place->second];
    require_same(tensor, outline, rank);
    tensor.ranks.push_back(rank);
    for (const auto& chunk : outline.chunks) {
      if (!lies_within(chunk, outline.shape)) {
        fail(ErrorCode::invalid, "'{}' has the shape {}, but rank {} has a chunk beyond it: {}",
             outline.path, to_text(outline.shape), rank, describe(chunk));
      }
      if (is_empty(chunk)) continue;
      auto& holders = tensor.holders[chunk];
      if (!holders.empty() && holders.back() == rank) {
        fail(ErrorCode::invalid, "rank {} has the chunk {} of '{}' twice", rank, to_text(chunk),
             outline.path);
      }
      holders.push_back(rank);
    }
  }

  // Of a chunk whose end may overflow.
  static std::string describe(const Chunk& chunk) {
    return format_text("{} elements at {}", to_text(chunk.sizes), to_text(chunk.offsets));
  }

  static void require_same(const Gathered& tensor, const TensorOutline& other, int rank) {
    const auto& first = *tensor.first;
    if (!tensor.ranks.empty() && tensor.ranks.back() == rank) {
      fail(ErrorCode::invalid, "rank {} has two tensors under the path '{}'", rank, other.path);
    }
    if (first.dtype != other.dtype) {
      fail(ErrorCode::invalid, "'{}' is {} on rank {} and {} on rank {}; one path is one tensor",
           other.path, name(first.dtype), tensor.first_rank, name(other.dtype), rank);
    }
    if (first.shares_with != other.shares_with) {
      const auto say = [](const TensorOutline& t) {
        return t.shares_with.empty() ? "by itself" : "shared with '" + t.shares_with + "'";
      };
      fail(ErrorCode::invalid, "the bytes of '{}' are {} on rank {} and {} on rank {}", other.path,
           say(first), tensor.first_rank, say(other), rank);
    }
    if (first.shape != other.shape) {
      fail(ErrorCode::invalid,
           "'{}' has the shape {} on rank {} and {} on rank {}; one path is one tensor", other.path,
           to_text(first.shape), tensor.first_rank, to_text(other.shape), rank);
    }
  }

  static PlannedTensor make(const Gathered& gathered) {
    const auto& outline = *gathered.first;
    PlannedTensor tensor{outline.path,        outline.dtype,  outline.shape,    {},
                         outline.shares_with, gathered.ranks, outline.is_tensor};
    if (is_empty(whole(outline.shape))) {
      tensor.chunks = {{whole(outline.shape), 0, gathered.ranks, 0}};
      return tensor;
    }
    std::vector<Chunk> chunks;
    for (const auto& [chunk, holders] : gathered.holders) {
      tensor.chunks.push_back({chunk, *possible_nbytes(chunk.sizes, outline.dtype), holders, 0});
      chunks.push_back(chunk);
    }
    require_cover(gathered, tensor, chunks);
    return tensor;
  }

  static void require_cover(const Gathered& gathered, const PlannedTensor& tensor,
                            const std::vector<Chunk>& chunks) {
    const auto problem = find_cover_problem(tensor.shape, chunks);
    if (!problem) return;
    switch (problem->type) {
      case CoverProblem::Type::overlap: {
        const auto& [a, b] =
            std::pair(tensor.chunks[problem->first], tensor.chunks[problem->second]);
        fail(ErrorCode::invalid, "chunks of '{}' overlap: {} of {} and {} of {}", tensor.path,
             to_text(a.chunk), name_ranks(a.holders), to_text(b.chunk), name_ranks(b.holders));
      }
      case CoverProblem::Type::hole:
        fail(ErrorCode::invalid,
             "{} of the {} elements of '{}' are on no rank; what there is of it is on {}",
             problem->missing, numel(whole(tensor.shape)), tensor.path, name_ranks(gathered.ranks));
      case CoverProblem::Type::tangled:
        fail(ErrorCode::invalid, "the {} chunks of '{}' on {} are too tangled to be checked",
             chunks.size(), tensor.path, name_ranks(gathered.ranks));
    }
  }

  static void require_possible(const Assignment& assignment) {
    std::uint64_t sum = 0;
    for (const auto& tensor : assignment.tensors) {
      const auto more = checked_add(sum, *possible_nbytes(tensor.shape, tensor.dtype));
      if (!more) fail(ErrorCode::invalid, "the tensors up to '{}' overflow 64 bits", tensor.path);
      sum = *more;
    }
  }

  // What only one rank has is settled; then the replicas, the largest first.
  static void choose_writers(Assignment& assignment) {
    std::vector<PlannedChunk*> replicas;
    for (auto& tensor : assignment.tensors) {
      if (!tensor.shares_with.empty()) continue;
      for (auto& chunk : tensor.chunks) {
        if (chunk.holders.size() > 1) {
          replicas.push_back(&chunk);
          continue;
        }
        chunk.writer = chunk.holders.front();
        assignment.nbytes[static_cast<std::size_t>(chunk.writer)] += chunk.nbytes;
      }
    }
    std::ranges::stable_sort(replicas, [](auto* a, auto* b) { return a->nbytes > b->nbytes; });
    for (auto* chunk : replicas) {
      chunk->writer = *std::ranges::min_element(chunk->holders, {}, [&](int rank) {
        return assignment.nbytes[static_cast<std::size_t>(rank)];
      });
      assignment.nbytes[static_cast<std::size_t>(chunk->writer)] += chunk->nbytes;
    }
  }

  // What shares bytes is written by whom writes those; all who have the one have the other.
  void follow_shared(Assignment& assignment) const {
    for (auto& tensor : assignment.tensors) {
      if (tensor.shares_with.empty()) continue;
      const auto found = by_path_.find(tensor.shares_with);
      const auto* first = found != by_path_.end() ? &assignment.tensors[found->second] : nullptr;
      auto& chunk = tensor.chunks.front();
      const bool fits = first != nullptr && first->shares_with.empty() &&
                        first->chunks.size() == 1 && tensor.chunks.size() == 1 &&
                        first->chunks[0].holders == chunk.holders;
      if (!fits) {
        fail(ErrorCode::invalid, "'{}' on {} shares its bytes with '{}', which is not so there",
             tensor.path, name_ranks(chunk.holders), tensor.shares_with);
      }
      chunk.writer = first->chunks[0].writer;
    }
  }

  std::vector<Gathered> tensors_;
  std::map<std::string_view, std::size_t> by_path_;
};

}  // namespace

Assignment assign(std::span<const Outline> outlines) {
  return Planner().plan(outlines);
}

}  // namespace understudy::ranks
