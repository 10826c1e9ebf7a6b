#include "checkpointer/rank_index.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "ranks/index_text.h"
#include "ranks/state_parts.h"
#include "store/commit.h"

namespace understudy {

bool adds_to_index(const ranks::Assignment& assignment, int rank) {
  // Plain values without a tensor beside them have no path there: rank 0's stand for all.
  return rank == 0 || std::ranges::any_of(assignment.tensors, [&](const auto& tensor) {
           return tensor.ranks.front() > 0 && std::ranges::binary_search(tensor.ranks, rank);
         });
}

format::ChunkOffsets chunk_offsets(const ranks::Assignment& assignment, int rank) {
  format::ChunkOffsets offsets;
  for (const auto& tensor : assignment.tensors) {
    for (const auto& planned : tensor.chunks) {
      if (planned.writer == rank && planned.chunk != ranks::whole(tensor.shape)) {
        offsets.emplace(tensor.path, planned.chunk.offsets);
      }
    }
  }
  return offsets;
}

std::string index_of_all(const ranks::Assignment& assignment,
                         const std::vector<std::string>& additions,
                         std::vector<std::string> per_rank) {
  std::vector<Value> skeletons;
  std::vector<std::string> files;
  for (std::size_t rank = 0; rank < additions.size(); ++rank) {
    files.push_back(store::shard_name(static_cast<int>(rank), static_cast<int>(additions.size())));
    if (additions[rank].empty()) continue;
    skeletons.push_back(
        ranks::decode_skeleton(additions[rank], format_text("the tree of rank {}", rank)));
  }
  return ranks::write_step_index({ranks::make_chunk_index(assignment, std::move(files)),
                                  ranks::encode_skeleton(ranks::merge_skeletons(skeletons)),
                                  std::move(per_rank)});
}

}  // namespace understudy
