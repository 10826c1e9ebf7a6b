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
  const TensorOutline* tie = nullptr;  // of the first rank that can tell: it has elements
  int tie_rank = 0;
  bool is_apart = false;                      // cut, and tied on some ranks only
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
    untie_cut(assignment);
    choose_writers(assignment);
    follow_shared(assignment);
    return assignment;
  }

 private:
  void gather(const TensorOutline& outline, int rank) {
    const auto [place, is_new] = by_path_.try_emplace(outline.path, tensors_.size());
    if (is_new) {
      auto& added = tensors_.emplace_back();
      added.first = &outline;
      added.first_rank = rank;
      if (!possible_nbytes(outline.shape, outline.dtype)) {
        fail(ErrorCode::invalid, "'{}' on rank {} has a shape that no tensor can have: {}",
             outline.path, rank, to_text(outline.shape));
      }
    }
    auto& tensor = tensors_[place->second];
    require_same(tensor, outline, rank);
    note_tie(tensor, outline, rank);
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
    if (first.shape != other.shape) {
      fail(ErrorCode::invalid,
           "'{}' has the shape {} on rank {} and {} on rank {}; one path is one tensor", other.path,
           to_text(first.shape), tensor.first_rank, to_text(other.shape), rank);
    }
  }

  static bool is_cut(const TensorOutline& outline) {
    return outline.chunks.size() != 1 || outline.chunks[0] != whole(outline.shape);
  }

  // Whoever has no element of a cut tensor cannot know what it shares.
  static void note_tie(Gathered& tensor, const TensorOutline& other, int rank) {
    const bool can_tell =
        is_empty(whole(other.shape)) ||
        std::ranges::any_of(other.chunks, [](const Chunk& chunk) { return !is_empty(chunk); });
    if (!can_tell) return;
    if (tensor.tie == nullptr) {
      tensor.tie = &other;
      tensor.tie_rank = rank;
    }
    if (tensor.tie->shares_with == other.shares_with) return;
    if (is_cut(other) || is_cut(*tensor.tie)) {
      tensor.is_apart = true;
      return;
    }
    const auto say = [](const TensorOutline& t) {
      return t.shares_with.empty() ? "by itself" : "shared with '" + t.shares_with + "'";
    };
    fail(ErrorCode::invalid, "the bytes of '{}' are {} on rank {} and {} on rank {}", other.path,
         say(*tensor.tie), tensor.tie_rank, say(other), rank);
  }

  static PlannedTensor make(const Gathered& gathered) {
    const auto& outline = *gathered.first;
    PlannedTensor tensor{outline.path, outline.dtype,  outline.shape,    {},
                         "",           gathered.ranks, outline.is_tensor};
    if (gathered.tie != nullptr && !gathered.is_apart) {
      tensor.shares_with = gathered.tie->shares_with;
    }
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

  // Null where it shares with nothing that is cut in the same way, on the same ranks.
  const PlannedTensor* shared_with(const Assignment& assignment,
                                   const PlannedTensor& tensor) const {
    const auto found = by_path_.find(tensor.shares_with);
    if (found == by_path_.end()) return nullptr;
    const auto& first = assignment.tensors[found->second];
    const bool is_one_chunk = tensor.chunks.size() == 1;  // maybe a view in another shape
    const auto is_same = [&](const PlannedChunk& a, const PlannedChunk& b) {
      return a.holders == b.holders && (is_one_chunk || a.chunk == b.chunk);
    };
    const bool fits = first.shares_with.empty() &&
                      std::ranges::equal(first.chunks, tensor.chunks, is_same) &&
                      (is_one_chunk || first.dtype == tensor.dtype);
    return fits ? &first : nullptr;
  }

  // Cut tensors that are not tied everywhere are tensors by themselves.
  void untie_cut(Assignment& assignment) const {
    for (auto& tensor : assignment.tensors) {
      if (tensor.shares_with.empty() || tensor.chunks.size() == 1) continue;
      if (shared_with(assignment, tensor) == nullptr) tensor.shares_with.clear();
    }
  }

  // What shares bytes is written by whom writes those; all who have the one have the other.
  void follow_shared(Assignment& assignment) const {
    for (auto& tensor : assignment.tensors) {
      if (tensor.shares_with.empty()) continue;
      const auto* first = shared_with(assignment, tensor);
      if (first == nullptr) {
        fail(ErrorCode::invalid, "'{}' on {} shares its bytes with '{}', which is not so there",
             tensor.path, name_ranks(tensor.chunks.front().holders), tensor.shares_with);
      }
      for (std::size_t i = 0; i < tensor.chunks.size(); ++i) {
        tensor.chunks[i].writer = first->chunks[i].writer;
      }
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
