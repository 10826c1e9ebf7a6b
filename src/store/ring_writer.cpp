// Each thread takes a block, has it gathered into a free buffer or finds it in
// the image, takes its checksum, hands it to its ring, and waits only when all
// its slots are under way: some blocks are filled while others are written.
#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "base/worker_pool.h"
#include "format/integrity.h"
#include "os/write_ring.h"
#include "store/block_writer.h"
#include "store/writer.h"

namespace understudy::store {

namespace {

/// One thread's ring, and a buffer for each of its slots.
struct Lane {
  std::unique_ptr<os::WriteRing> ring;
  std::vector<Scratch> scratch;
  std::vector<unsigned> free_slots;
  std::vector<std::uint64_t> nbytes;  ///< of the block in each slot
};

class RingWriter final : public BlockWriter {
 public:
  RingWriter(std::vector<Lane> lanes, bool low_priority)
      : lanes_(std::move(lanes)), pool_("us-ring", static_cast<int>(lanes_.size()), low_priority) {}

  void write(const os::File& file, ShardSource& source, std::span<std::uint64_t> checksums,
             const Flow& flow) override {
    next_ = 0;
    pool_.run(std::min<std::uint64_t>(lanes_.size(), checksums.size()),
              [&](std::uint64_t lane, int) {
                try {
                  write_some(lanes_[lane], file, source, checksums, flow);
                } catch (...) {
                  next_ = checksums.size();   // the others need not go on
                  lanes_[lane].ring.reset();  // waits for what is under way
                  throw;
                }
              });
  }

 private:
  void write_some(Lane& lane, const os::File& file, ShardSource& source,
                  std::span<std::uint64_t> checksums, const Flow& flow) {
    const auto wait = [&] {
      const unsigned slot = lane.ring->wait();
      flow.add(lane.nbytes[slot]);
      lane.free_slots.push_back(slot);
    };
    for (;;) {
      const std::uint64_t index = next_.fetch_add(1, std::memory_order_relaxed);
      if (index >= checksums.size()) break;
      // A buffer that has been used is warm; a new one costs more than it gains.
      while (lane.free_slots.empty() || lane.ring->has_ended_one()) wait();
      const unsigned slot = lane.free_slots.back();
      const PreparedBlock block =
          prepare_block(file, source, index, lane.scratch[slot].get(file), checksums[index], flow);
      lane.nbytes[slot] = block.nbytes;
      lane.free_slots.pop_back();
      lane.ring->begin(slot, file, block.offset, block.bytes);
    }
    while (lane.ring->in_flight() > 0) wait();
  }

  std::vector<Lane> lanes_;
  WorkerPool pool_;
  std::atomic<std::uint64_t> next_{0};
};

}  // namespace

std::unique_ptr<BlockWriter> make_ring_writer(int threads, bool low_priority, std::string& why) {
  // One is filled while another is written, however many threads there are.
  const auto depth = static_cast<unsigned>(std::max(2, kDeviceDepth / threads));
  std::vector<Lane> lanes(static_cast<std::size_t>(threads));
  for (Lane& lane : lanes) {
    lane.ring = os::WriteRing::open(depth, why);
    if (!lane.ring) return nullptr;
    lane.scratch = std::vector<Scratch>(depth);
    lane.nbytes.resize(depth);
    for (unsigned slot = depth; slot-- > 0;) lane.free_slots.push_back(slot);
  }
  return std::make_unique<RingWriter>(std::move(lanes), low_priority);
}

}  // namespace understudy::store
