// Reading a file's bytes, verified, into memory.
#pragma once

#include <cstdint>
#include <string>

#include "base/worker_pool.h"
#include "store/reader.h"
#include "understudy/files.h"

namespace understudy::restore {

/// Threads that read from a disk. As many requests keep it near its limit
/// (measured: depth 8); more only take memory.
inline constexpr int kReadThreads = 8;

struct Loaded {
  Value state;
  std::string how;  ///< as BlockReader::how
};

/// The state of an open file in new private memory (or, with options.mmap,
/// over a private mapping of it). Every block that is touched is verified, and
/// no other is read; with options.verify false, or for a file without checksums,
/// nothing but the bytes of what was asked for.
Loaded load(const store::ShardReader& file, const LoadFileOptions& options, WorkerPool& readers);

}  // namespace understudy::restore
