#if defined(__x86_64__)

// Before the target: see hash_kernel.inc.
#include <immintrin.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "format/hash_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif

#define XXH_VECTOR XXH_AVX2
#include "format/hash_kernel.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace understudy::format {

const HashKernel kAvx2Kernel{"avx2",       hash64_here, hash128_here,
                             begin64_here, add64_here,  end64_here};

}  // namespace understudy::format

#endif
