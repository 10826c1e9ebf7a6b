// A state with tensors over no memory: what can be said of it without
// reading its data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "inspect/resolve.h"
#include "understudy/value.h"

namespace understudy::inspect {

struct Outline {
  Value tree;
  struct Leaf {
    std::string path;
    const Tensor* tensor;              ///< lives as long as the tree; never read its bytes
    std::uint32_t shard;               ///< the file that has it
    std::uint32_t entry;               ///< index into that one's header's entries
    std::optional<std::uint32_t> run;  ///< of memory that it shares there (value::InMemory)
    /// Where its chunks lie, if it is cut; then `shard` and `entry` say nothing. Points into the
    /// index.
    const ranks::StoredTensor* cut = nullptr;
  };
  std::vector<Leaf> tensors;  ///< in walk order
};

/// Tensors of one entry share one storage, which has the entry's size and no data; one that lay
/// otherwise in memory has one of that size. A file that is not ours gives a flat dict; an entry of
/// a type that no tensor can have is an opaque leaf there. Text, bytes and lists of numbers that
/// lie in entries of their own are read, and verified, up to 64 MiB of them; the rest are opaque
/// leaves.
/// Those of a step of several shards are put together.
Outline outline_of(const OpenTarget& target);

}  // namespace understudy::inspect
