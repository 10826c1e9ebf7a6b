// How the blocks of a file get to the disk: the part in which writers differ.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "os/file.h"
#include "store/pace.h"
#include "store/source.h"
#include "vm/mapping.h"

namespace understudy::store {

/// Writes the blocks of one file after another. Holds its threads and its
/// scratch memory between calls; one call at a time.
class BlockWriter {
 public:
  virtual ~BlockWriter() = default;

  /// Writes every block of `source` behind the header's place and gives its
  /// checksum, taken from memory by the thread that writes it. When it returns
  /// or throws, nothing is under way any more.
  virtual void write(const os::File& file, ShardSource& source, std::span<std::uint64_t> checksums,
                     const Flow& flow) = 0;
};

/// By threads that call pwrite, past the page cache or through it, as the file
/// was opened. Through it, write-back begins at once, and what is written leaves
/// the cache again.
std::unique_ptr<BlockWriter> make_thread_writer(int threads, bool low_priority);

/// Through io_uring: a few threads, each with a ring. Null where it is refused:
/// `why` then says so. After a failure it cannot be used again.
std::unique_ptr<BlockWriter> make_ring_writer(int threads, bool low_priority, std::string& why);

/// Memory for one block, as direct I/O wants it, in huge pages where there are
/// any, from the first time it is asked for. Only what is filled takes real
/// memory. `get` throws Error(no_space), naming the file it is for.
class Scratch {
 public:
  std::span<std::byte> get(const os::File& file);

 private:
  std::optional<vm::Mapping> memory_;
};

/// A block as it goes to the file.
struct PreparedBlock {
  std::uint64_t offset;              ///< in the file
  std::uint64_t nbytes;              ///< of the block
  std::span<const std::byte> bytes;  ///< with zeros behind it, as direct I/O wants it
};

/// Asks the source for a block, when its turn has come, and takes its checksum.
PreparedBlock prepare_block(const os::File& file, ShardSource& source, std::uint64_t index,
                            std::span<std::byte> scratch, std::uint64_t& checksum,
                            const Flow& flow);

}  // namespace understudy::store
