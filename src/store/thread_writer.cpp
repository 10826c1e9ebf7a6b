#include <vector>

#include "base/worker_pool.h"
#include "format/integrity.h"
#include "store/block_writer.h"

namespace understudy::store {

namespace {

/// A block that the page cache still holds.
struct Cached {
  std::uint64_t offset = 0;
  std::uint64_t nbytes = 0;
};

class ThreadWriter final : public BlockWriter {
 public:
  ThreadWriter(int threads, bool low_priority)
      : pool_("us-write", threads, low_priority),
        scratch_(static_cast<std::size_t>(pool_.threads())) {}

  void write(const os::File& file, ShardSource& source, std::span<std::uint64_t> checksums,
             const Flow& flow) override {
    std::vector<Cached> cached(scratch_.size());
    pool_.run(checksums.size(), [&](std::uint64_t index, int worker) {
      const auto at = static_cast<std::size_t>(worker);
      const PreparedBlock block =
          prepare_block(file, source, index, scratch_[at].get(file), checksums[index], flow);
      file.write_at(block.offset, block.bytes);
      if (!file.is_direct()) pass_through_cache(file, block, cached[at]);
      flow.add(block.nbytes);
    });
    if (file.is_direct()) return;
    for (const Cached& last : cached) {
      if (last.nbytes != 0) file.finish_write_back(last.offset, last.nbytes);
    }
  }

 private:
  // One block a thread is on its way to the disk while the next is filled, so
  // that fsync finds little left to do, and no more than two a thread are in the
  // page cache, where others have their data.
  static void pass_through_cache(const os::File& file, const PreparedBlock& block, Cached& last) {
    file.begin_write_back(block.offset, block.bytes.size());
    if (last.nbytes != 0) file.finish_write_back(last.offset, last.nbytes);
    last = {block.offset, block.bytes.size()};
  }

  WorkerPool pool_;
  std::vector<Scratch> scratch_;  ///< one a worker
};

}  // namespace

std::unique_ptr<BlockWriter> make_thread_writer(int threads, bool low_priority) {
  return std::make_unique<ThreadWriter>(threads, low_priority);
}

}  // namespace understudy::store
