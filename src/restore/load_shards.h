// The whole state of a step of several shards, in one process.
#pragma once

#include "base/worker_pool.h"
#include "restore/load.h"
#include "store/reader.h"
#include "store/step_files.h"
#include "understudy/files.h"

namespace understudy::restore {

/// As load() for a step that has an index; of `shards`, its files, those are opened that hold what
/// is wanted. Tensors that are cut come
/// together; what shares memory does so again. `mmap` has no meaning for tensors that are cut.
Loaded load_shards(const store::StepFolder& step, store::StepShards& shards,
                   const LoadFileOptions& options, WorkerPool& readers);

/// The state of any step.
Loaded load_step(const store::StepFolder& step, store::StepShards& shards,
                 const LoadFileOptions& options, WorkerPool& readers);

}  // namespace understudy::restore
