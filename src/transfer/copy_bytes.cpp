#include "transfer/copy_bytes.h"

#include <algorithm>
#include <cstring>

namespace understudy::transfer {
namespace {

// Below this the copy is likely to be read again from the cache, and memcpy is
// as fast (measured: even at 64 KiB, 1.3 times slower than streaming at 1 MiB).
constexpr std::size_t kStreamedNbytes = std::size_t{256} << 10;

// Where more than this is copied in one go, the caches cannot hold it, and
// streaming keeps them for those who come after: then even small runs are worth
// it, down to where their ragged ends count (measured out of 256 MiB on one
// thread, a fence after each run: 1 KiB 8 against memcpy's 6 GB/s, 4 KiB 15 and
// 11, 64 KiB 16 and 11; 512 bytes 5 and 10).
constexpr std::uint64_t kManyNbytes = std::uint64_t{8} << 20;
constexpr std::size_t kShortNbytes = std::size_t{1} << 10;

// Work is shared out in pieces of this size: large enough that handing one out
// costs nothing, small enough that threads end together.
constexpr std::uint64_t kPieceNbytes = std::uint64_t{1} << 20;

// A run of whole copies [first, last), or bytes [begin, end) of one.
struct Job {
  std::size_t first, last;
  std::uint64_t begin = 0, end = 0;
};

std::vector<Job> share_out(const std::vector<ByteCopy>& copies) {
  std::vector<Job> jobs;
  std::uint64_t open_nbytes = kPieceNbytes + 1;  // in the last job; full: none to add to
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto nbytes = copies[i].nbytes;
    if (nbytes > kPieceNbytes) {
      for (std::uint64_t at = 0; at < nbytes; at += kPieceNbytes) {
        jobs.push_back({i, i + 1, at, std::min(nbytes, at + kPieceNbytes)});
      }
      open_nbytes = kPieceNbytes + 1;
      continue;
    }
    if (open_nbytes + nbytes > kPieceNbytes) {
      jobs.push_back({i, i, 0, 0});
      open_nbytes = 0;
    }
    jobs.back().last = i + 1;
    open_nbytes += nbytes;
  }
  return jobs;
}

}  // namespace

void copy_bytes(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  BulkCopy(nbytes).copy(to, from, nbytes);
}

BulkCopy::BulkCopy(std::uint64_t total_nbytes) noexcept
    : kernel_(copy_kernel()),
      streamed_nbytes_(total_nbytes > kManyNbytes ? kShortNbytes : kStreamedNbytes) {}

// One fence for all runs: it costs as much as a copy of 2 KiB.
BulkCopy::~BulkCopy() {
  if (has_streamed_) kernel_.finish();
}

void BulkCopy::copy(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  if (nbytes >= streamed_nbytes_) {
    kernel_.stream(to, from, nbytes);
    has_streamed_ = true;
  } else if (nbytes > 0) {
    std::memcpy(to, from, nbytes);
  }
}

void copy_runs(const std::vector<ByteCopy>& copies, WorkerPool& workers) {
  const auto jobs = share_out(copies);
  std::uint64_t nbytes = 0;
  for (const auto& c : copies) nbytes += c.nbytes;
  workers.run(jobs.size(), [&](std::uint64_t j, int) {
    const auto& job = jobs[j];
    BulkCopy bulk(nbytes);
    if (job.end > 0) {
      const auto& c = copies[job.first];
      return bulk.copy(c.to + job.begin, c.from + job.begin, job.end - job.begin);
    }
    for (auto i = job.first; i < job.last; ++i) {
      bulk.copy(copies[i].to, copies[i].from, copies[i].nbytes);
    }
  });
}

}  // namespace understudy::transfer
