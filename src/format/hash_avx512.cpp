#if defined(__x86_64__)

// GCC 12 takes the deliberately undefined registers in its own AVX-512 header for
// a mistake (its bug 105593).
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

// Before the target: see hash_kernel.inc.
#include <immintrin.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "format/hash_kernel.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f")
#endif

#define XXH_VECTOR XXH_AVX512
#include "format/hash_kernel.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace understudy::format {

const HashKernel kAvx512Kernel{"avx512",     hash64_here, hash128_here,
                               begin64_here, add64_here,  end64_here};

}  // namespace understudy::format

#endif
