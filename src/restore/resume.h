// A file into the caller's own tensors and objects.
#pragma once

#include "base/worker_pool.h"
#include "memory/image.h"
#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::restore {

/// 1. Reads and verifies every byte into `image`. 2. Compares. 3. Only then
/// lets objects take their parts, and overwrites tensors; `state` becomes the
/// merged tree. Throws Error(corrupt) from 1 and Error(invalid), with all
/// misfits, from 2: nothing has been changed then. What an object throws in 3
/// passes through; tensors are written after all objects have taken theirs.
void resume_into(const store::ShardReader& reader, Value& state, const memory::Lease& image,
                 bool allow_pickle, WorkerPool& readers, WorkerPool& copiers);

}  // namespace understudy::restore
