#include "ranks/chunk_index.h"

#include <set>
#include <utility>

#include "base/error.h"

namespace understudy::ranks {
namespace {

// Names that are taken, for each file.
using Taken = std::vector<std::set<std::string>>;

std::string take_name(std::set<std::string>& taken, const std::string& path) {
  auto name = path;
  for (int i = 2; !taken.insert(name).second; ++i) name = format_text("{}#{}", path, i);
  return name;
}

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
  // A tensor's own path goes before a name that was made: no "w#2" of "w" takes it.
  Taken taken(index.files.size());
  for (const auto& tensor : assignment.tensors) {
    std::set<std::uint32_t> seen;
    StoredTensor stored{tensor.path, tensor.dtype, tensor.shape, {}};
    for (const auto& planned : tensor.chunks) {
      const auto file = static_cast<std::uint32_t>(planned.writer);
      const bool is_first = seen.insert(file).second;
      stored.chunks.push_back({file, is_first ? tensor.path : "", planned.chunk});
      if (is_first) taken[file].insert(tensor.path);
    }
    index.tensors.push_back(std::move(stored));
  }
  for (auto& tensor : index.tensors) {
    for (auto& stored : tensor.chunks) {
      if (stored.entry.empty()) stored.entry = take_name(taken[stored.file], tensor.path);
    }
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
