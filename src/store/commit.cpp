// The commit of a step by one process. docs/commit.md explains each number and what a crash after
// it leaves.
#include "store/commit.h"

#include <chrono>
#include <utility>

#include "base/error.h"
#include "store/folder_lock.h"
#include "store/step_commit.h"

namespace understudy::store {

Committed commit_step(FolderLock& lock, std::int64_t step, ShardSource& source,
                      const std::string& metadata_json, Writer& writer,
                      const CommitOptions& options, std::atomic<std::uint64_t>* done) {
  StepCommit commit(lock, step, options);
  const std::string shard = shard_name(0, 1);
  Written written;
  try {
    // 1. reserve, 2. write, 3. fsync: the shard.
    written = writer.write(commit.open(), shard, source, done);
    Manifest manifest;
    manifest.files = {{shard, written.nbytes, written.digest}};
    manifest.metadata_json = metadata_json;
    if (!commit.make_durable(std::move(manifest))) written.writer += kFoldersNotSynced;
  } catch (...) {
    commit.undo();
    throw;
  }
  return {.path = std::filesystem::path(lock.directory().name()) / step_name(step),
          .writer = std::move(written.writer),
          .durable_at = std::chrono::steady_clock::now(),
          .unremoved = commit.retire()};
}

}  // namespace understudy::store
