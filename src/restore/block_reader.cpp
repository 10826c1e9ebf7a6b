#include "restore/block_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include "base/error.h"
#include "format/hash.h"
#include "os/system.h"

namespace understudy::restore {
namespace {

using format::kBlockNbytes;

// Bytes of one read: they stay in the processor's cache until they are hashed
// (measured: 66 ms a GiB by 1 MiB, 75 by 4 MiB), and the call itself does not
// count yet (74 ms by 64 KiB).
constexpr std::uint64_t kPieceNbytes = std::uint64_t{1} << 20;

// Runs from this size on are read straight to their place. A call for each
// smaller one would cost more than the copy.
constexpr std::uint64_t kDirectNbytes = std::uint64_t{128} << 10;

// Blocks that a thread reads in a row: the kernel reads ahead for it.
constexpr std::uint64_t kMaxRowBlocks = 16;

std::uint64_t end_of(const Destination& d) noexcept {
  return d.begin + d.nbytes;
}

}  // namespace

// What one thread keeps to itself.
struct BlockReader::Worker {
  std::vector<std::byte> scratch;
  std::optional<os::File> handle;
  bool wants_handle = false;
  format::Hash64 hash;

  const os::File& file(const os::File& shared) {
    if (wants_handle && !handle) handle = shared.reopen();
    wants_handle = false;
    return handle ? *handle : shared;
  }
  std::span<std::byte> scratch_of(std::uint64_t nbytes) {
    if (scratch.size() < nbytes) scratch.resize(kPieceNbytes);
    return std::span(scratch).first(nbytes);
  }
};

// Which blocks are read, and where their bytes go.
struct BlockReader::Plan {
  std::vector<std::uint64_t> blocks;  // ascending
  bool takes_whole_blocks = true;
  std::vector<Destination> direct;  // large, ascending, alone in their part of the file
  std::vector<Destination> others;  // ascending by begin
  std::vector<std::uint64_t> ends;  // of others: the farthest so far

  void add(const Destination& d) {
    const auto first = d.begin / kBlockNbytes, last = (end_of(d) - 1) / kBlockNbytes;
    for (auto b = blocks.empty() ? first : std::max(first, blocks.back() + 1); b <= last; ++b) {
      blocks.push_back(b);
    }
  }

  void add_all(std::vector<Destination> destinations) {
    std::erase_if(destinations, [](const Destination& d) { return d.nbytes == 0; });
    std::sort(destinations.begin(), destinations.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::uint64_t before = 0;  // the farthest end so far
    for (std::size_t i = 0; i < destinations.size(); ++i) {
      const auto& d = destinations[i];
      add(d);
      const bool is_alone = d.begin >= before && (i + 1 == destinations.size() ||
                                                  destinations[i + 1].begin >= end_of(d));
      before = std::max(before, end_of(d));
      if (is_alone && d.to != nullptr && d.nbytes >= kDirectNbytes) {
        direct.push_back(d);
      } else {
        others.push_back(d);
        ends.push_back(std::max(ends.empty() ? 0 : ends.back(), end_of(d)));
      }
    }
  }

  // The first of `others` that may reach behind `at`.
  std::size_t first_other(std::uint64_t at) const {
    return static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), at) - ends.begin());
  }
};

BlockReader::BlockReader(const store::ShardReader& file, WorkerPool& readers, bool verify)
    : file_(file), readers_(readers), verify_(verify) {}

BlockReader::~BlockReader() = default;

void BlockReader::verify_all() {
  Plan plan;
  for (std::uint64_t b = 0; b < format::block_count(file_.header().data_nbytes); ++b) {
    plan.blocks.push_back(b);
  }
  run(plan);
}

void BlockReader::read(std::vector<Destination> destinations) {
  Plan plan;
  plan.takes_whole_blocks = verifies();
  plan.add_all(std::move(destinations));
  run(plan);
}

void BlockReader::rest() noexcept {
  workers_.clear();
  block_ = {};
  block_index_.reset();
}

std::string BlockReader::how() const {
  const std::string pages = prefault_.what();
  return pages.empty() ? how_ : how_ + "; " + pages;
}

std::string BlockReader::bytes(const format::Entry& entry) {
  if (entry.nbytes() == 0) return {};
  os::require_memory("a long leaf of the state", entry.nbytes());
  std::string out(entry.nbytes(), '\0');
  if (!verifies()) {
    file_.read(file_.file(), entry.begin, std::as_writable_bytes(std::span(out)));
    return out;
  }
  for (auto b = entry.begin / kBlockNbytes; b <= (entry.end - 1) / kBlockNbytes; ++b) {
    if (block_index_ != b) {
      require_order();
      block_index_.reset();
      block_.resize(kBlockNbytes);
      file_.read_block(b, block_);
      block_index_ = b;
    }
    const auto base = b * kBlockNbytes;
    const auto lo = std::max(base, entry.begin);
    const auto hi = std::min(base + file_.block_nbytes(b), entry.end);
    std::memcpy(out.data() + (lo - entry.begin), block_.data() + (lo - base), hi - lo);
  }
  return out;
}

// Long leaves lie in the order in which the tree names them, so that each block is
// read once. Another order would have a short tree read the file again and again.
void BlockReader::require_order() {
  const auto most = 2 * format::block_count(file_.header().data_nbytes);
  if (++blocks_loaded_ <= most) return;
  fail(ErrorCode::corrupt, "{}: its long leaves lie in an order that no writer makes",
       file_.name());
}

// Bytes that are in memory are copied by the processor: a thread for each core.
// Those that come from the disk need many requests at a time, each thread at its
// own place in the file.
void BlockReader::run(const Plan& plan) {
  const auto count = plan.blocks.size();
  if (count == 0) return;
  std::array<std::uint64_t, 16> sample;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    sample[i] = file_.header().header_nbytes +
                plan.blocks[i * (count - 1) / (sample.size() - 1)] * kBlockNbytes;
  }
  const bool is_cached = file_.file().is_cached(sample);
  const int most = readers_.threads();
  const auto threads =
      static_cast<std::uint64_t>(is_cached ? std::clamp(os::cores_of_this_rank(), 1, most) : most);
  // When the disk is waited for, a row a thread; else smaller ones, so that all end together.
  const std::uint64_t rows = is_cached ? 4 * threads : threads;
  const auto row = std::clamp<std::uint64_t>((count + rows - 1) / rows, 1, kMaxRowBlocks);
  const auto used = std::min(threads, (count + row - 1) / row);
  how_ = fmt::format("page cache, {} {}: {}", used, used == 1 ? "thread" : "threads",
                     is_cached ? "the file was in memory" : "the file was on disk");
  while (workers_.size() < static_cast<std::size_t>(most)) {
    workers_.push_back(std::make_unique<Worker>());
  }
  std::atomic<std::uint64_t> next{0};
  readers_.run(used, [&](std::uint64_t, int w) {
    auto& worker = *workers_[static_cast<std::size_t>(w)];
    worker.wants_handle = !is_cached;
    for (;;) {
      const auto first = next.fetch_add(row);
      if (first >= count) return;
      try {
        for (auto i = first; i < std::min(first + row, static_cast<std::uint64_t>(count)); ++i) {
          read_block(plan, plan.blocks[i], worker);
        }
      } catch (...) {
        next = count;
        throw;
      }
    }
  });
}

void BlockReader::read_block(const Plan& plan, std::uint64_t index, Worker& worker) {
  const auto end = index * kBlockNbytes + file_.block_nbytes(index);
  if (verifies()) worker.hash.reset();
  auto d = std::partition_point(plan.direct.begin(), plan.direct.end(), [&](const auto& one) {
    return end_of(one) <= index * kBlockNbytes;
  });
  for (auto at = index * kBlockNbytes; at < end;) {
    if (d != plan.direct.end() && end_of(*d) <= at) ++d;
    const bool is_direct = d != plan.direct.end() && d->begin <= at;
    auto stop = std::min(end, at + kPieceNbytes);
    if (is_direct) {
      stop = std::min(stop, end_of(*d));
      read_piece(*d, at, stop, worker);
      at = stop;
    } else {
      if (d != plan.direct.end()) stop = std::min(stop, d->begin);
      at = scatter_piece(plan, at, stop, worker);
    }
  }
  if (verifies()) file_.check_block(index, worker.hash.value());
}

void BlockReader::read_piece(const Destination& d, std::uint64_t at, std::uint64_t end,
                             Worker& worker) {
  const std::span whole(d.to, d.nbytes);
  const auto out = whole.subspan(at - d.begin, end - at);
  if (d.is_fresh) prefault_.make(out, whole);
  file_.read(worker.file(file_.file()), at, out);
  if (verifies()) worker.hash.add(out);
}

// Returns how far it came.
std::uint64_t BlockReader::scatter_piece(const Plan& plan, std::uint64_t at, std::uint64_t end,
                                         Worker& worker) {
  const auto first = plan.first_other(at);
  if (!plan.takes_whole_blocks) {
    // The first run of bytes that somebody wants.
    if (first == plan.others.size() || plan.others[first].begin >= end) return end;
    at = std::max(at, plan.others[first].begin);
    auto wanted = at;
    for (auto i = first; i < plan.others.size() && plan.others[i].begin <= wanted; ++i) {
      wanted = std::max(wanted, end_of(plan.others[i]));
    }
    end = std::min(end, wanted);
  }
  const auto scratch = worker.scratch_of(end - at);
  file_.read(worker.file(file_.file()), at, scratch);
  if (verifies()) worker.hash.add(scratch);
  for (auto i = first; i < plan.others.size() && plan.others[i].begin < end; ++i) {
    const auto& d = plan.others[i];
    const auto lo = std::max(at, d.begin), hi = std::min(end, end_of(d));
    if (lo >= hi) continue;
    const auto piece = std::span<const std::byte>(scratch).subspan(lo - at, hi - lo);
    if (d.to != nullptr) {
      std::memcpy(d.to + (lo - d.begin), piece.data(), piece.size());
    } else if (d.take) {
      d.take(lo, piece);
    }
  }
  return end;
}

}  // namespace understudy::restore
