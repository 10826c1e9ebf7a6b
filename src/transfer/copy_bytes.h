// Copying bytes at the speed of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/worker_pool.h"
#include "understudy/tensor.h"

namespace understudy::transfer {

/// As memcpy. Large copies bypass the caches on the way out: the lines that
/// they fill need not be read first, and what the caller works on stays cached.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept;

/// Copies all, on all threads of `workers`: large ones in pieces, small ones
/// together.
void copy_runs(const std::vector<ByteCopy>& copies, WorkerPool& workers);

}  // namespace understudy::transfer
