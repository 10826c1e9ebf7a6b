#include "ranks/chunk_index.h"

#include <set>
#include <utility>

#include "base/error.h"

namespace understudy::ranks {
namespace {

// Names that are taken, for each file.
using Taken = std::vector<std::set<std::string>>;

void require_cover(const StoredTensor& tensor, std::string_view file) {
  std::vector<Chunk> chunks;
  for (const auto& stored : tensor.chunks) chunks.push_back(stored.chunk);
  const auto problem = find_cover_problem(tensor.shape, chunks);
  if (!problem) return;
  switch (problem->type) {
    case CoverProblem::Type::overlap:
      fail(ErrorCode::corrupt, "{}: the chunks {} and {} of '{}' overlap", file,
           to_text(chunks[problem->first]), to_text(chunks[problem->second]), tensor.path);
    case CoverProblem::Type::hole:
      fail(ErrorCode::corrupt, "{}: {} of the {} elements of '{}' are in no chunk", file,
           problem->missing, numel(whole(tensor.shape)), tensor.path);
    case CoverProblem::Type::tangled:
      fail(ErrorCode::corrupt, "{}: the {} chunks of '{}' are too tangled to be checked", file,
           chunks.size(), tensor.path);
  }
}

void require_chunk(const StoredChunk& stored, const StoredTensor& tensor, const ChunkIndex& index,
                   Taken& taken, std::string_view file) {
  if (!lies_within(stored.chunk, tensor.shape)) {
    fail(ErrorCode::corrupt, "{}: a chunk of '{}' lies beyond its shape {}", file, tensor.path,
         to_text(tensor.shape));
  }
  if (stored.file >= index.files.size()) {
    fail(ErrorCode::corrupt, "{}: a chunk of '{}' lies in file {} of {}", file, tensor.path,
         stored.file, index.files.size());
  }
  if (!taken[stored.file].insert(stored.entry).second) {
    fail(ErrorCode::corrupt, "{}: the entry '{}' of {} is there twice", file, stored.entry,
         index.files[stored.file]);
  }
}

}  // namespace

ChunkIndex make_chunk_index(const Assignment& assignment, std::vector<std::string> files) {
  ChunkIndex index{std::move(files), {}};
  for (const auto& tensor : assignment.tensors) {
    std::set<int> writers;
    StoredTensor stored{tensor.path, tensor.dtype, tensor.shape, {}, tensor.is_tensor};
    for (const auto& planned : tensor.chunks) {
      if (!writers.insert(planned.writer).second) {
        fail(ErrorCode::invalid, "rank {} has two chunks of '{}', and a file takes one",
             planned.writer, tensor.path);
      }
      stored.chunks.push_back(
          {static_cast<std::uint32_t>(planned.writer), tensor.path, planned.chunk});
    }
    index.tensors.push_back(std::move(stored));
  }
  return index;
}

void require_whole(const ChunkIndex& index, std::string_view file) {
  std::set<std::string> paths;
  Taken taken(index.files.size());
  for (const auto& tensor : index.tensors) {
    if (!paths.insert(tensor.path).second) {
      fail(ErrorCode::corrupt, "{}: the path '{}' is there twice", file, tensor.path);
    }
    if (!possible_nbytes(tensor.shape, tensor.dtype)) {
      fail(ErrorCode::corrupt, "{}: '{}' has a shape that no tensor can have: {}", file,
           tensor.path, to_text(tensor.shape));
    }
    for (const auto& stored : tensor.chunks) require_chunk(stored, tensor, index, taken, file);
    require_cover(tensor, file);
  }
}

}  // namespace understudy::ranks
