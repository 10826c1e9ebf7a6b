#include "checkpointer/sources.h"
#include "store/commit.h"
#include "understudy/files.h"

namespace understudy {

void save_file(const Value& state, const std::filesystem::path& path,
               const SaveFileOptions& options) {
  StateSource source(state, header_metadata(options.metadata));
  store::Writer writer({.threads = options.threads, .choice = options.writer});
  store::commit_file(path, source, writer);
}

void Snapshot::save_file(const std::filesystem::path& path, const FileMetadata& metadata) const {
  const auto contents = state_->contents();
  if (!contents.opaques.empty()) require_storable(state());
  const auto source = source_of(contents, header_metadata(metadata));
  store::Writer writer;
  store::commit_file(path, *source, writer);
}

}  // namespace understudy
