// From a file's blocks to many places in memory, verified as they pass.
//
// Through the page cache, never past it: what a first pass has read is then
// there for a second one, and the disk is as fast (measured). Bytes are copied
// out by the kernel (pread), never read in a mapping: a file that is cut, or a
// disk that fails, is then an error and not a signal that ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "format/integrity.h"
#include "os/file.h"
#include "store/reader.h"
#include "vm/prefault.h"

namespace understudy::restore {

/// Where a run of the data section belongs.
struct Destination {
  std::uint64_t begin = 0;  ///< in the data section
  std::uint64_t nbytes = 0;
  std::byte* to = nullptr;  ///< null: only to be verified, or for `take`
  bool is_fresh = false;    ///< a whole new storage; its pages are made on the way
  /// Without `to`: is handed the bytes of the run, in pieces, by several threads at a time. `at` is
  /// where a piece begins in the data section.
  std::function<void(std::uint64_t at, std::span<const std::byte> piece)> take{};
};

/// Reads one open file with several threads. `file` and `readers` must outlive
/// it. One call at a time.
class BlockReader {
 public:
  BlockReader(const store::ShardReader& file, WorkerPool& readers, bool verify = true);
  ~BlockReader();

  /// Reads and verifies every block; keeps nothing but the page cache warm.
  void verify_all();

  /// Brings their bytes to `destinations`, which do not overlap in memory.
  /// Where there are checksums to verify, exactly the blocks that they touch are
  /// read, each once; else exactly their bytes. Large runs are read straight to
  /// their place. Throws Error(corrupt), Error(io): then anything may have been
  /// written to the destinations.
  void read(std::vector<Destination> destinations);

  /// The bytes of one entry, verified. Cheap for entries that lie together.
  std::string bytes(const format::Entry& entry);

  /// Gives back the memory and the handles of its threads, until the next call.
  void rest() noexcept;

  /// How the last call read, and why; and what pages fresh memory got, if there
  /// was any: "page cache, 2 threads: the file was in memory".
  std::string how() const;

 private:
  struct Plan;
  struct Worker;

  bool verifies() const noexcept { return verify_ && file_.integrity(); }
  void run(const Plan& plan);
  void read_block(const Plan& plan, std::uint64_t index, Worker& worker);
  void read_piece(const Destination& d, std::uint64_t at, std::uint64_t end, Worker& worker);
  std::uint64_t scatter_piece(const Plan& plan, std::uint64_t at, std::uint64_t end,
                              Worker& worker);

  const store::ShardReader& file_;
  WorkerPool& readers_;
  const bool verify_;
  vm::Prefault prefault_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::string how_;
  void require_order();
  // The block that `bytes` read last, and how many it has read.
  std::vector<std::byte> block_;
  std::optional<std::uint64_t> block_index_;
  std::uint64_t blocks_loaded_ = 0;
};

}  // namespace understudy::restore
