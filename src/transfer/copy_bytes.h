// Copying bytes at the speed of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/worker_pool.h"
#include "transfer/copy_kernel.h"
#include "understudy/tensor.h"

namespace understudy::transfer {

/// As memcpy. Large copies bypass the caches on the way out: the lines that
/// they fill need not be read first, and what the caller works on stays cached.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept;

/// One thread's share of a copying of `total_nbytes` by all: where that is more
/// than the caches hold, even small runs go past them. What it has copied is for
/// others to read when it has ended.
class BulkCopy {
 public:
  explicit BulkCopy(std::uint64_t total_nbytes) noexcept;
  ~BulkCopy();
  BulkCopy(const BulkCopy&) = delete;
  BulkCopy& operator=(const BulkCopy&) = delete;

  void copy(std::byte* to, const std::byte* from, std::size_t nbytes) noexcept;

 private:
  const CopyKernel& kernel_;
  const std::size_t streamed_nbytes_;
  bool has_streamed_ = false;
};

/// Copies all, on all threads of `workers`: large ones in pieces, small ones
/// together.
void copy_runs(const std::vector<ByteCopy>& copies, WorkerPool& workers);

}  // namespace understudy::transfer
