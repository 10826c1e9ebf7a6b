#include "restore/load.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "os/system.h"
#include "restore/decode.h"

namespace understudy::restore {
namespace {

using format::kBlockNbytes;

// Collects the entries that a state needs, then reads their blocks.
class Loader {
 public:
  Loader(const store::ShardReader& reader, const LoadFileOptions& options)
      : reader_(reader), options_(options) {
    if (options.mmap) {
      mapping_ = std::make_shared<os::PrivateMapping>(reader.file().fd(), reader.file_nbytes(),
                                                      reader.name());
    }
  }

  Value load(WorkerPool& readers) {
    const EntryMemory memory{[this](std::uint32_t e) { return storage(e); },
                             [this](std::uint32_t e) { return bytes(e); }};
    auto state = decode_state(reader_, memory, options_.names, options_.allow_pickle);
    read(readers);
    return state;
  }

 private:
  const format::Entry& entry(std::uint32_t e) const { return reader_.header().entries[e]; }

  std::shared_ptr<const Storage> storage(std::uint32_t e) {
    const auto nbytes = entry(e).nbytes();
    wanted_.push_back(e);
    if (mapping_) {
      auto* at = mapping_->data() + reader_.header().header_nbytes + entry(e).begin;
      // Other people's headers have any length: what they left unaligned is copied.
      constexpr std::uintptr_t kWidest = 8;
      const auto bits = format::dtype_bits(entry(e).dtype);
      const auto alignment = std::min<std::uintptr_t>(kWidest, std::max(1u, bits / 8));
      if (reinterpret_cast<std::uintptr_t>(at) % alignment == 0) {
        return std::make_shared<Storage>(at, nbytes, mapping_);
      }
    }
    const auto made = Storage::allocate(nbytes);
    filled_[e] = made.get();
    return made;
  }

  std::string bytes(std::uint32_t e) const {
    std::string out(entry(e).nbytes(), '\0');
    std::vector<std::byte> block(kBlockNbytes);
    for_each_block(e, [&](std::uint64_t index) {
      reader_.read_block(index, block, options_.verify);
      take(index, block.data(), e, reinterpret_cast<std::byte*>(out.data()));
    });
    return out;
  }

  template <class Body>
  void for_each_block(std::uint32_t e, Body body) const {
    if (entry(e).nbytes() == 0) return;
    for (auto b = entry(e).begin / kBlockNbytes; b <= (entry(e).end - 1) / kBlockNbytes; ++b) {
      body(b);
    }
  }

  // Copies what block `index` has of entry `e` to its place in the entry.
  void take(std::uint64_t index, const std::byte* block, std::uint32_t e, std::byte* out) const {
    const auto base = index * kBlockNbytes;
    const auto lo = std::max(base, entry(e).begin);
    const auto hi = std::min(base + reader_.block_nbytes(index), entry(e).end);
    std::memcpy(out + (lo - entry(e).begin), block + (lo - base), hi - lo);
  }

  void read(WorkerPool& readers) {
    std::map<std::uint64_t, std::vector<std::uint32_t>> blocks;
    for (const auto e : wanted_) {
      for_each_block(e, [&](std::uint64_t b) { blocks[b].push_back(e); });
    }
    std::vector<std::pair<std::uint64_t, std::vector<std::uint32_t>>> jobs(blocks.begin(),
                                                                           blocks.end());
    std::vector<std::vector<std::byte>> scratch(static_cast<std::size_t>(readers.threads()));
    readers.run(jobs.size(), [&](std::uint64_t j, int worker) {
      read_block(jobs[j].first, jobs[j].second, scratch[static_cast<std::size_t>(worker)]);
    });
  }

  void read_block(std::uint64_t index, const std::vector<std::uint32_t>& entries,
                  std::vector<std::byte>& scratch) const {
    const auto base = index * kBlockNbytes, nbytes = reader_.block_nbytes(index);
    const bool is_filled =
        std::any_of(entries.begin(), entries.end(), [&](auto e) { return filled_.contains(e); });
    if (!is_filled) {
      if (options_.verify) {
        const auto* at = mapping_->data() + reader_.header().header_nbytes + base;
        reader_.verify_block(index, {at, nbytes});
      }
      return;
    }
    const auto e = entries.front();
    if (entries.size() == 1 && entry(e).begin <= base && base + nbytes <= entry(e).end) {
      auto* out = filled_.at(e)->data() + (base - entry(e).begin);
      return reader_.read_block(index, {out, nbytes}, options_.verify);
    }
    scratch.resize(kBlockNbytes);
    reader_.read_block(index, scratch, options_.verify);
    for (const auto one : entries) {
      const auto to = filled_.find(one);
      if (to != filled_.end()) take(index, scratch.data(), one, to->second->data());
    }
  }

  const store::ShardReader& reader_;
  const LoadFileOptions& options_;
  std::shared_ptr<os::PrivateMapping> mapping_;
  std::vector<std::uint32_t> wanted_;
  std::map<std::uint32_t, const Storage*> filled_;  // by reading, not by mapping
};

}  // namespace

Value load(const store::ShardReader& reader, const LoadFileOptions& options, WorkerPool& readers) {
  return Loader(reader, options).load(readers);
}

}  // namespace understudy::restore

namespace understudy {

Value load_file(const std::filesystem::path& path, const LoadFileOptions& options) {
  const store::ShardReader reader(path);
  WorkerPool readers("us-read", options.threads > 0 ? options.threads : restore::kReadThreads);
  return restore::load(reader, options, readers);
}

}  // namespace understudy
