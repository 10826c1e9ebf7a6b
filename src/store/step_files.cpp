#include "store/step_files.h"

#include "base/error.h"
#include "format/hash.h"
#include "os/system.h"

namespace understudy::store {

namespace {

ShardReader open_one(StepFolder& step, const ManifestFile& file) {
  step.manifest->files = {file};
  return open_step(step);
}

}  // namespace

StepShards::StepShards(const StepFolder& step) : step_(step) {
  if (!step.is_complete()) open_step(step);  // throws why
  files_ = step.manifest->files;
  shards_.resize(files_.size());
}

const ShardReader& StepShards::at(std::size_t rank) {
  auto& shard = shards_[rank];
  if (!shard) shard.emplace(open_one(step_, files_[rank]));
  return *shard;
}

std::vector<ShardReader> open_shards(const StepFolder& step) {
  std::vector<ShardReader> shards;
  if (!step.is_complete() || !step.manifest->index) {
    shards.push_back(open_step(step));
    return shards;
  }
  StepFolder one = step;
  for (const ManifestFile& file : step.manifest->files) shards.push_back(open_one(one, file));
  return shards;
}

std::string read_index_text(const StepFolder& step) {
  const ManifestFile& index = *step.manifest->index;
  const os::File file = step.folder->open_file(index.name);
  // The manifest may claim any size.
  if (const auto nbytes = file.size(); nbytes != index.nbytes) {
    fail(ErrorCode::corrupt, "{} has {} bytes where the manifest says {}", file.name(), nbytes,
         index.nbytes);
  }
  os::require_memory("the index of a step", index.nbytes);
  std::string text(index.nbytes, '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  if (format::hash128_hex(std::as_bytes(std::span(text))) != index.digest) {
    fail(ErrorCode::corrupt, "{} is damaged: its digest is not the manifest's", file.name());
  }
  return text;
}

}  // namespace understudy::store
