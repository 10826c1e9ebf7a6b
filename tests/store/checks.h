// What the tests of steps and of single files both look at.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "fakes/faulty_calls.h"
#include "fakes/shard.h"
#include "store/reader.h"

namespace understudy::store {

/// Whether the file is the small shard of `seed`.
inline bool has_bytes_of(const ShardReader& reader, unsigned seed) {
  std::vector<std::byte> bytes(reader.block_nbytes(0));
  reader.read_block(0, bytes);
  return std::ranges::equal(bytes, fakes::small_shard(seed).data());
}

/// The calls that make a commit durable, in their order: `1` reserves, `s` syncs, `6` renames.
inline std::string durable_order(const fakes::FaultyCalls& calls) {
  std::string order;
  for (const std::string& call : calls.log()) {
    if (call == "fallocate") order += "1 ";
    if (call == "fsync") order += "s ";
    if (call == "renameat" || call == "renameat2") order += "6 ";
  }
  return order;
}

}  // namespace understudy::store
