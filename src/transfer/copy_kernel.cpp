#include "transfer/copy_kernel.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace understudy::transfer {
namespace {

constexpr std::size_t kLine = 64;

void copy_plainly(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  if (nbytes > 0) std::memcpy(to, from, nbytes);
}

void finish_nothing() noexcept {}

#if defined(__x86_64__) || defined(__aarch64__)
// Streams the whole lines of the target with `copy_lines`; the ragged ends are
// copied plainly.
template <class Lines>
inline void stream_lines(std::byte* to, const std::byte* from, std::size_t nbytes,
                         Lines copy_lines) noexcept {
  const auto head = (kLine - reinterpret_cast<std::uintptr_t>(to) % kLine) % kLine;
  if (nbytes < head + kLine) return copy_plainly(to, from, nbytes);
  const auto lines = (nbytes - head) / kLine;
  copy_plainly(to, from, head);
  copy_lines(to + head, from + head, lines);
  const auto done = head + lines * kLine;
  copy_plainly(to + done, from + done, nbytes - done);
}
#endif

#if defined(__x86_64__)

void lines_sse2(std::byte* to, const std::byte* from, std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += kLine, from += kLine) {
    const auto* in = reinterpret_cast<const __m128i*>(from);
    auto* out = reinterpret_cast<__m128i*>(to);
    const auto a = _mm_loadu_si128(in), b = _mm_loadu_si128(in + 1);
    const auto c = _mm_loadu_si128(in + 2), d = _mm_loadu_si128(in + 3);
    _mm_stream_si128(out, a);
    _mm_stream_si128(out + 1, b);
    _mm_stream_si128(out + 2, c);
    _mm_stream_si128(out + 3, d);
  }
}

__attribute__((target("avx2"))) void lines_avx2(std::byte* to, const std::byte* from,
                                                std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += kLine, from += kLine) {
    const auto* in = reinterpret_cast<const __m256i*>(from);
    auto* out = reinterpret_cast<__m256i*>(to);
    const auto a = _mm256_loadu_si256(in), b = _mm256_loadu_si256(in + 1);
    _mm256_stream_si256(out, a);
    _mm256_stream_si256(out + 1, b);
  }
}

__attribute__((target("avx512f"))) void lines_avx512(std::byte* to, const std::byte* from,
                                                     std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += kLine, from += kLine) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
  }
}

void stream_sse2(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  stream_lines(to, from, nbytes, lines_sse2);
}
void stream_avx2(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  stream_lines(to, from, nbytes, lines_avx2);
}
void stream_avx512(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  stream_lines(to, from, nbytes, lines_avx512);
}

void finish_streaming() noexcept {
  _mm_sfence();
}

constinit const std::array kKernels{
    CopyKernel{"plain", copy_plainly, finish_nothing},
    CopyKernel{"sse2", stream_sse2, finish_streaming},
    CopyKernel{"avx2", stream_avx2, finish_streaming},
    CopyKernel{"avx512", stream_avx512, finish_streaming},
};

std::size_t usable() noexcept {
  if (__builtin_cpu_supports("avx512f")) return 4;
  return __builtin_cpu_supports("avx2") ? 3 : 2;
}

#elif defined(__aarch64__)

// Pairs that are not worth caching; to other threads they are ordinary stores.
void lines_neon(std::byte* to, const std::byte* from, std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += kLine, from += kLine) {
    asm volatile(
        "ldp q0, q1, [%1]\n\t"
        "ldp q2, q3, [%1, #32]\n\t"
        "stnp q0, q1, [%0]\n\t"
        "stnp q2, q3, [%0, #32]"
        :
        : "r"(to), "r"(from)
        : "v0", "v1", "v2", "v3", "memory");
  }
}

void stream_neon(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept {
  stream_lines(to, from, nbytes, lines_neon);
}

constinit const std::array kKernels{
    CopyKernel{"plain", copy_plainly, finish_nothing},
    CopyKernel{"neon", stream_neon, finish_nothing},
};

std::size_t usable() noexcept {
  return kKernels.size();
}

#else

constinit const std::array kKernels{CopyKernel{"plain", copy_plainly, finish_nothing}};

std::size_t usable() noexcept {
  return kKernels.size();
}

#endif

constinit std::atomic<const CopyKernel*> forced = nullptr;

}  // namespace

std::span<const CopyKernel> copy_kernels() noexcept {
  static const std::size_t count = usable();
  return {kKernels.data(), count};
}

const CopyKernel& copy_kernel() noexcept {
  if (const auto* const kernel = forced.load(std::memory_order_acquire)) return *kernel;
  return copy_kernels().back();
}

ForceCopyKernel::ForceCopyKernel(const CopyKernel& kernel) noexcept
    : before_(forced.exchange(&kernel, std::memory_order_acq_rel)) {}

ForceCopyKernel::~ForceCopyKernel() {
  forced.store(before_, std::memory_order_release);
}

}  // namespace understudy::transfer
