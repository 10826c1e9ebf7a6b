// A file into the caller's own tensors and objects.
#pragma once

#include "base/worker_pool.h"
#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::restore {

/// 1. Reads every byte once and verifies it. 2. Compares. 3. Only then lets
/// objects take their parts, and overwrites tensors; `state` becomes the merged
/// tree. Throws Error(corrupt) from 1 and Error(invalid), with all misfits, from
/// 2: nothing has been changed then. What an object throws in 3 passes through;
/// tensors are written after all objects have taken theirs.
///
/// No memory for the whole is taken: 1 leaves the file in the page cache, and 3
/// reads it again and verifies each block again, so that no other bytes than
/// those that were written ever reach a tensor. Should the file change between
/// the two, that is Error(corrupt) too, and says that tensors were overwritten.
void resume_into(const store::ShardReader& reader, Value& state, bool allow_pickle,
                 WorkerPool& readers, WorkerPool& copiers);

}  // namespace understudy::restore
