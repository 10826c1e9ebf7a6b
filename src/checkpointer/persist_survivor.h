// A step in memory goes to the disk.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/worker_pool.h"
#include "store/commit.h"
#include "store/reader.h"

namespace understudy {

/// Commits the step by the ordinary protocol, in the form that any save gives it, with the number
/// and the metadata that its manifest has. `shard` is its open file, which must not be written or
/// cut meanwhile; its name may go.
store::Committed persist_shard(store::FolderLock& lock, const store::StepFolder& step,
                               const store::ShardReader& shard, store::Writer& writer,
                               WorkerPool& readers, const store::CommitOptions& options,
                               std::atomic<std::uint64_t>* done = nullptr);

}  // namespace understudy
