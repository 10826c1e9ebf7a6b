#include "restore/scatter.h"

#include <algorithm>
#include <cstring>

#include "format/integrity.h"

namespace understudy::restore {
namespace {

using format::kBlockNbytes;

// One block a worker, read again and again: it stays in the cache.
class Scratch {
 public:
  explicit Scratch(const WorkerPool& readers)
      : blocks_(static_cast<std::size_t>(readers.threads())) {}
  std::vector<std::byte>& of(int worker) {
    auto& block = blocks_[static_cast<std::size_t>(worker)];
    block.resize(kBlockNbytes);
    return block;
  }

 private:
  std::vector<std::vector<std::byte>> blocks_;
};

}  // namespace

void verify_all(const store::ShardReader& reader, WorkerPool& readers) {
  Scratch scratch(readers);
  readers.run(format::block_count(reader.header().data_nbytes),
              [&](std::uint64_t b, int worker) { reader.read_block(b, scratch.of(worker)); });
}

void scatter(const store::ShardReader& reader, std::vector<Destination> destinations,
             WorkerPool& readers) {
  std::erase_if(destinations, [](const Destination& d) { return d.nbytes == 0; });
  std::sort(destinations.begin(), destinations.end(),
            [](const auto& a, const auto& b) { return a.begin < b.begin; });
  // The farthest end so far: where one begins before, all after it may matter.
  std::vector<std::uint64_t> ends;
  ends.reserve(destinations.size());
  std::vector<std::uint64_t> blocks;
  for (const auto& d : destinations) {
    ends.push_back(std::max(ends.empty() ? 0 : ends.back(), d.begin + d.nbytes));
    const auto first = d.begin / kBlockNbytes, last = (d.begin + d.nbytes - 1) / kBlockNbytes;
    for (auto b = blocks.empty() ? first : std::max(first, blocks.back() + 1); b <= last; ++b) {
      blocks.push_back(b);
    }
  }
  Scratch scratch(readers);
  readers.run(blocks.size(), [&](std::uint64_t i, int worker) {
    auto& block = scratch.of(worker);
    reader.read_block(blocks[i], block);
    const auto base = blocks[i] * kBlockNbytes, end = base + reader.block_nbytes(blocks[i]);
    const auto first = std::upper_bound(ends.begin(), ends.end(), base) - ends.begin();
    for (auto d = destinations.begin() + first; d != destinations.end() && d->begin < end; ++d) {
      const auto lo = std::max(base, d->begin), hi = std::min(end, d->begin + d->nbytes);
      if (lo < hi) std::memcpy(d->to + (lo - d->begin), block.data() + (lo - base), hi - lo);
    }
  });
}

}  // namespace understudy::restore
