// From a file's blocks to many places in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/worker_pool.h"
#include "store/reader.h"

namespace understudy::restore {

/// Where a run of the data section belongs.
struct Destination {
  std::uint64_t begin = 0;  ///< in the data section
  std::uint64_t nbytes = 0;
  std::byte* to = nullptr;
};

/// Reads and verifies every block; keeps nothing but the page cache warm.
void verify_all(const store::ShardReader& reader, WorkerPool& readers);

/// Reads the blocks that `destinations` need, each once, verifies them and
/// copies their bytes. Destinations do not overlap in memory. Throws
/// Error(corrupt); other blocks have been copied then.
void scatter(const store::ShardReader& reader, std::vector<Destination> destinations,
             WorkerPool& readers);

}  // namespace understudy::restore
