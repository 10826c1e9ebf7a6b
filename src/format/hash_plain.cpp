#include "format/hash_kernel.h"
#include "format/hash_kernel.inc"

namespace understudy::format {
namespace {

constexpr const char* kName = XXH_VECTOR == XXH_AVX512 ? "avx512"
                              : XXH_VECTOR == XXH_AVX2 ? "avx2"
                              : XXH_VECTOR == XXH_SSE2 ? "sse2"
                              : XXH_VECTOR == XXH_NEON ? "neon"
                                                       : "scalar";

}  // namespace

const HashKernel kPlainKernel{kName,        hash64_here, hash128_here,
                              begin64_here, add64_here,  end64_here};

}  // namespace understudy::format
