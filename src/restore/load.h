// Reading a file's bytes, verified, into memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/worker_pool.h"
#include "store/reader.h"
#include "understudy/files.h"

namespace understudy::restore {

/// Threads that read. As many requests keep the disk near its limit
/// (measured: depth 8); more only take memory.
inline constexpr int kReadThreads = 8;

/// The state of an open file in new private memory (or, with options.mmap,
/// over a private mapping of it). Every block that is touched is verified
/// unless options.verify is false.
Value load(const store::ShardReader& reader, const LoadFileOptions& options, WorkerPool& readers);

}  // namespace understudy::restore
