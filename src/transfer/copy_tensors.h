// The way back: tensors into tensors.
#pragma once

#include <vector>

#include "base/worker_pool.h"
#include "understudy/tensor.h"

namespace understudy::transfer {

/// `from` and `to` have the same shape, and dtypes that are the same or can be converted
/// (convert.h).
struct TensorCopy {
  Tensor from;
  Tensor to;
};

/// Which copies can go on side by side.
struct CopyGroups {
  /// Contiguous on both sides, in one dtype, sharing memory with no other target: a run of bytes.
  std::vector<const TensorCopy*> runs;
  /// The rest, by the memory that the targets share, in the order given.
  std::vector<std::vector<const TensorCopy*>> others;
};

/// The pointers live as long as `copies`.
CopyGroups group_copies(const std::vector<TensorCopy>& copies);

/// Copies all, on all threads of `workers`, shared out by bytes. Targets that
/// share memory are written one after another in the order given.
void copy_tensors(const std::vector<TensorCopy>& copies, WorkerPool& workers);

}  // namespace understudy::transfer
