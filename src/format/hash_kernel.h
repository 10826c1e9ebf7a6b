// One kernel for each vector width. Each is compiled in a file of its own, for
// its own processor; hash.cpp picks one at run time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace understudy::format {

struct Hash128 {
  std::uint64_t high;
  std::uint64_t low;
};

struct HashKernel {
  const char* name;
  std::uint64_t (*hash64)(const void* bytes, std::size_t nbytes);
  Hash128 (*hash128)(const void* bytes, std::size_t nbytes);
  // The 64-bit hash of bytes that come in pieces. `state` is kHashStateNbytes of
  // memory, aligned to kHashStateAlignment.
  void (*begin64)(void* state);
  void (*add64)(void* state, const void* bytes, std::size_t nbytes);
  std::uint64_t (*end64)(const void* state);
};

inline constexpr std::size_t kHashStateNbytes = 576;
inline constexpr std::size_t kHashStateAlignment = 64;

extern const HashKernel kPlainKernel;  ///< what the compiler's target has: SSE2, NEON, or none
#if defined(__x86_64__)
extern const HashKernel kAvx2Kernel;
extern const HashKernel kAvx512Kernel;
#endif

/// The kernel that hash64 and hash128_hex use.
const HashKernel& chosen_hash_kernel() noexcept;

}  // namespace understudy::format
