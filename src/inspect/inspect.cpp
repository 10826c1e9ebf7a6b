#include "understudy/inspect.h"

#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "format/integrity.h"
#include "format/metadata.h"
#include "inspect/outline.h"
#include "inspect/resolve.h"
#include "os/path.h"
#include "store/look.h"
#include "store/reader.h"

namespace understudy {
namespace {

namespace fs = std::filesystem;

/// Bytes of the regular files right in a folder.
std::uint64_t folder_nbytes(const os::Directory& folder) {
  std::uint64_t sum = 0;
  for (const auto& name : folder.list()) {
    const auto found = folder.find(name);
    if (found && found->type == os::FileInfo::Type::file) sum += found->nbytes;
  }
  return sum;
}

/// Bytes of the files of a step; nothing when it went meanwhile.
std::optional<std::uint64_t> step_nbytes(const os::Directory& run, const store::StepFolder& step) {
  const auto name = step.path.filename().native();
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    try {
      const auto folder = run.open_directory(name, /*follow_links=*/true);
      const auto nbytes = folder_nbytes(folder);
      // Of one that was replaced or removed half of the files may be gone by now.
      if (store::is_still_there(run, name, folder)) return nbytes;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::not_found) return {};
      return 0;  // the step's problem tells
    }
  }
  store::fail_restless(step.path);
}

std::string file_name(const store::ShardReader& shard) {
  return fs::path(shard.name()).filename().native();
}

void add_entries(const store::ShardReader& shard, std::vector<EntryInfo>& entries) {
  const auto& header = shard.header();
  for (const auto& entry : header.entries) {
    entries.push_back({entry.name, entry.dtype, entry.shape, entry.nbytes(),
                       header.header_nbytes + entry.begin, file_name(shard)});
  }
}

std::vector<ChunkInfo> chunks_of(const ranks::StoredTensor& cut, const ranks::ChunkIndex& index) {
  std::vector<ChunkInfo> chunks;
  for (const auto& stored : cut.chunks) {
    chunks.push_back(
        {index.files[stored.file], stored.entry, stored.chunk.offsets, stored.chunk.sizes});
  }
  return chunks;
}

std::vector<TensorInfo> tensors_of(const inspect::Outline& outline,
                                   const inspect::OpenTarget& source) {
  // How many tensors lie in an entry of a shard, or in a run of memory of it.
  using Place = std::pair<std::uint32_t, std::uint32_t>;
  std::map<Place, std::uint32_t> users, run_users;
  for (const auto& leaf : outline.tensors) {
    if (leaf.cut != nullptr) continue;
    ++users[{leaf.shard, leaf.entry}];
    if (leaf.run) ++run_users[{leaf.shard, *leaf.run}];
  }
  std::vector<TensorInfo> tensors;
  tensors.reserve(outline.tensors.size());
  for (const auto& leaf : outline.tensors) {
    const auto& t = *leaf.tensor;
    TensorInfo info;
    info.path = leaf.path;
    info.dtype = name(t.dtype());
    info.shape = t.shape();
    info.strides = t.strides();
    info.nbytes = t.nbytes();
    if (leaf.cut != nullptr) {
      info.chunks = chunks_of(*leaf.cut, source.index->chunks);
    } else {
      const auto& shard = source.shards[leaf.shard];
      info.entry = shard.header().entries[leaf.entry].name;
      info.file = file_name(shard);
      info.run = leaf.run;
      info.is_shared = users[{leaf.shard, leaf.entry}] > 1 ||
                       (leaf.run && run_users[{leaf.shard, *leaf.run}] > 1);
    }
    tensors.push_back(std::move(info));
  }
  return tensors;
}

/// The texts of a header's `__metadata__` that are the user's.
Value header_metadata(const format::Header& header) {
  Value::Pairs pairs;
  for (const auto& [key, text] : header.metadata) {
    if (!key.starts_with(format::kReservedPrefix)) pairs.emplace_back(key, text);
  }
  return Value::dict(std::move(pairs));
}

}  // namespace

std::vector<StepInfo> list_steps(const fs::path& directory) {
  os::require_path(directory);
  const auto found = os::find_file(directory);
  if (found && found->type != os::FileInfo::Type::directory) {
    fail(ErrorCode::invalid, "'{}' is not a folder of steps", directory.string());
  }
  const auto run = os::Directory::open(directory);
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    std::vector<StepInfo> infos;
    bool is_newest_gone = false;  // then a newer one may have come before it went
    for (const auto& step : store::look_at_steps(run)) {
      const auto nbytes = step_nbytes(run, step);
      is_newest_gone = !nbytes;
      if (!nbytes) continue;
      infos.push_back({step.step, step.path, step.is_complete(), step.problem, *nbytes,
                       step.manifest ? step.manifest->time : ""});
    }
    if (!is_newest_gone) return infos;
  }
  store::fail_restless(directory);
}

std::vector<Description> describe(const fs::path& path) {
  const auto source = inspect::open_target(path);
  auto outline = inspect::outline_of(source);
  const auto& first = source.shards.front();

  Description d;
  d.file = source.index ? source.target.path.native() : first.name();
  d.shards = source.shards.size();
  d.is_ours = first.integrity().has_value();
  for (const auto& shard : source.shards) {
    d.file_nbytes += shard.file_nbytes();
    add_entries(shard, d.entries);
  }
  if (source.target.step) {
    d.step = source.target.step->step;
    d.metadata = metadata_from_json(source.target.step->manifest->metadata_json);
  } else {
    d.metadata = header_metadata(first.header());
  }
  d.tensors = tensors_of(outline, source);
  d.tree = std::move(outline.tree);
  std::vector<Description> descriptions;
  descriptions.push_back(std::move(d));
  return descriptions;
}

}  // namespace understudy
