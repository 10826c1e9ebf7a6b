#include "store/step_files.h"

#include "base/error.h"
#include "format/hash.h"

namespace understudy::store {

std::vector<ShardReader> open_shards(const StepFolder& step) {
  std::vector<ShardReader> shards;
  if (!step.is_complete() || !step.manifest->index) {
    shards.push_back(open_step(step));
    return shards;
  }
  StepFolder one = step;
  for (const ManifestFile& file : step.manifest->files) {
    one.manifest->files = {file};
    shards.push_back(open_step(one));
  }
  return shards;
}

std::string read_index_text(const StepFolder& step) {
  const ManifestFile& index = *step.manifest->index;
  const os::File file = step.folder->open_file(index.name);
  std::string text(index.nbytes, '\0');
  if (file.size() == index.nbytes) file.read_at(0, std::as_writable_bytes(std::span(text)));
  if (format::hash128_hex(std::as_bytes(std::span(text))) != index.digest) {
    fail(ErrorCode::corrupt, "{} is damaged: its digest is not the manifest's", file.name());
  }
  return text;
}

}  // namespace understudy::store
