// One process's part of a step: steps 1 to 3 of docs/commit.md for one file.
#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"
#include "checkpointer/sources.h"
#include "os/path.h"
#include "parts/nest.h"
#include "parts/report.h"
#include "ranks/state_parts.h"
#include "store/names.h"
#include "store/writer.h"
#include "understudy/parts.h"

namespace understudy {
namespace {

using ranks::PartLeaf;

bool is_cut(const PartLeaf& leaf) {
  return leaf.chunk != ranks::whole(leaf.shape);
}

// What goes into a shard of several, and what is said of it.
struct SharedPart {
  Value shard;
  format::ChunkOffsets offsets;
};

// Chunks without elements are not written, unless they are all of their tensor.
SharedPart share(const ranks::StateParts& parts, parts::Report& report) {
  SharedPart part;
  Value::Pairs pairs;
  report.outline = ranks::outline_of(parts);
  for (std::size_t i = 0; i < parts.leaves.size(); ++i) {
    const auto& leaf = parts.leaves[i];
    report.outline.tensors[i].shares_with.clear();
    if (is_cut(leaf) && ranks::is_empty(leaf.chunk)) {
      report.outline.tensors[i].chunks.clear();
      continue;
    }
    pairs.emplace_back(leaf.key, leaf.value);
    if (is_cut(leaf)) part.offsets.emplace(leaf.key, leaf.chunk.offsets);
  }
  part.shard = Value::dict(std::move(pairs));
  report.skeleton = ranks::encode_skeleton(parts.skeleton);
  return part;
}

os::Directory open_temporary(const PartPlace& place) {
  const auto path = os::absolute(place.path);
  const auto name = path.filename().native() + std::string(store::kTemporary) + place.mark;
  try {
    return os::Directory::open(path.parent_path()).open_directory(name);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    fail(ErrorCode::io,
         "{}/{}, which the coordinator has made, is not here: all ranks must see one folder and "
         "give one path",
         path.parent_path().native(), name);
  }
}

void remove_quietly(const os::Directory& folder, const std::string& name) noexcept {
  try {
    if (folder.exists(name)) folder.remove_file(name);
  } catch (const std::exception&) {
    // The failure of the write is what counts; the coordinator removes the folder.
  }
}

}  // namespace

struct PartWriter::State {
  explicit State(const store::WriterOptions& options) : writer(options) {}
  store::Writer writer;
};

PartWriter::PartWriter(const PartWriterOptions& options) {
  if (options.threads < 0) {
    fail(ErrorCode::invalid, "threads must not be negative, and is {}", options.threads);
  }
  state_ =
      std::make_unique<State>(store::WriterOptions{.threads = options.threads,
                                                   .choice = options.writer,
                                                   .max_rate = options.max_write_rate.value_or(0)});
}
PartWriter::~PartWriter() = default;
PartWriter::PartWriter(PartWriter&&) noexcept = default;
PartWriter& PartWriter::operator=(PartWriter&&) noexcept = default;

std::string PartWriter::write(const PartPlace& place, const Value& leaves, const LeafPaths& paths) {
  os::require_path(place.path);
  require_storable(leaves, /*by_all=*/true);
  const auto parts = ranks::split_state(leaves);
  const auto name = parts::part_name(place.rank, place.count, place.file);
  parts::Report report{.rank = place.rank, .count = place.count, .file = place.file, .name = name};
  report.is_whole_state =
      place.count == 1 && place.is_only && std::ranges::none_of(parts.leaves, is_cut);
  Value state;
  ShardChunks chunks;
  if (report.is_whole_state) {
    state = parts::nest(ranks::alone(leaves), paths);
  } else {
    auto part = share(parts, report);
    state = std::move(part.shard);
    chunks = std::move(part.offsets);
  }
  StateSource source(state, header_metadata({}), nullptr, chunks);
  const auto folder = open_temporary(place);
  try {
    const auto written = state_->writer.write(folder, name, source);
    // Where each machine has a view of its own, another's fsync may not know of this name.
    folder.sync();
    report.nbytes = written.nbytes;
    report.digest = written.digest;
  } catch (...) {
    remove_quietly(folder, name);
    throw;
  }
  return parts::encode(report);
}

}  // namespace understudy
