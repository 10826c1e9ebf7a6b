#include "transfer/copy_bytes.h"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace understudy::transfer {
namespace {

// Below this the copy is likely to be read again from the cache, and memcpy is
// as fast (measured: even at 64 KiB, 1.3 times slower than streaming at 1 MiB).
constexpr std::size_t kStreamedNbytes = std::size_t{256} << 10;

// Where more than this is copied in one go, the caches cannot hold it, and
// streaming keeps them for those who come after: then even small runs are worth
// it, down to where their ragged ends count.
constexpr std::uint64_t kManyNbytes = std::uint64_t{8} << 20;
constexpr std::size_t kShortNbytes = std::size_t{1} << 10;

// Work is shared out in pieces of this size: large enough that handing one out
// costs nothing, small enough that threads end together.
constexpr std::uint64_t kPieceNbytes = std::uint64_t{1} << 20;

#if defined(__x86_64__)
// SSE2, which every x86-64 has: streaming is bound by memory, not by width.
void stream(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  constexpr std::size_t kLine = 64;
  const auto head = (kLine - reinterpret_cast<std::uintptr_t>(to) % kLine) % kLine;
  std::memcpy(to, from, head);
  to += head, from += head, nbytes -= head;
  for (; nbytes >= kLine; nbytes -= kLine, to += kLine, from += kLine) {
    const auto* in = reinterpret_cast<const __m128i*>(from);
    auto* out = reinterpret_cast<__m128i*>(to);
    const auto a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1);
    const auto c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, a);
    _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c);
    _mm_stream_si128(out + 3, d);
  }
  _mm_sfence();
  std::memcpy(to, from, nbytes);
}
#endif

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

void copy_past_caches(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
#if defined(__x86_64__)
  if (nbytes >= kShortNbytes) return stream(to, from, nbytes);
#endif
  if (nbytes > 0) std::memcpy(to, from, nbytes);
}

}  // namespace

void copy_bytes(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
#if defined(__x86_64__)
  if (nbytes >= kStreamedNbytes) return stream(to, from, nbytes);
#endif
  if (nbytes > 0) std::memcpy(to, from, nbytes);
}

void copy_runs(const std::vector<ByteCopy>& copies, WorkerPool& workers) {
  const auto jobs = share_out(copies);
  std::uint64_t nbytes = 0;
  for (const auto& c : copies) nbytes += c.nbytes;
  const auto copy = nbytes > kManyNbytes ? copy_past_caches : copy_bytes;
  workers.run(jobs.size(), [&](std::uint64_t j, int) {
    const auto& job = jobs[j];
    if (job.end > 0) {
      const auto& c = copies[job.first];
      return copy(c.to + job.begin, c.from + job.begin, job.end - job.begin);
    }
    for (auto i = job.first; i < job.last; ++i) {
      copy(copies[i].to, copies[i].from, copies[i].nbytes);
    }
  });
}

}  // namespace understudy::transfer
