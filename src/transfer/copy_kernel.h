// One way to copy for each kind of vector; copy_kernel.cpp picks one at run time.
#pragma once

#include <cstddef>
#include <span>

namespace understudy::transfer {

struct CopyKernel {
  const char* name;  ///< "avx512", "avx2", "sse2", "neon", "plain"
  /// Copies past the caches, where the processor has such stores. Other threads
  /// may see the bytes only after `finish` by this thread.
  void (*stream)(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept;
  void (*finish)() noexcept;
};

/// Those that this processor can run, "plain" (memcpy) first, the widest last.
std::span<const CopyKernel> copy_kernels() noexcept;

/// The kernel in use: the widest. Streaming is bound by memory and not by width
/// (measured on two threads, 1 GiB: 45.6-47.6 ms by all three of x86, 63 ms by
/// memcpy), but one store of 512 bits is a whole cache line, of which nothing is
/// ever written back half.
const CopyKernel& copy_kernel() noexcept;

/// Puts another kernel in use until the end of the scope. For tests.
class ForceCopyKernel {
 public:
  explicit ForceCopyKernel(const CopyKernel& kernel) noexcept;
  ~ForceCopyKernel();
  ForceCopyKernel(const ForceCopyKernel&) = delete;
  ForceCopyKernel& operator=(const ForceCopyKernel&) = delete;

 private:
  const CopyKernel* before_;
};

}  // namespace understudy::transfer
