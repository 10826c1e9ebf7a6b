// A file into the caller's own tensors and objects.
#pragma once

#include <functional>
#include <string>

#include "base/worker_pool.h"
#include "store/reader.h"
#include "understudy/value.h"

namespace understudy::restore {

struct ResumeRules {
  bool allow_pickle = false;
  /// Called with the merged tree between 2 and 3. May be empty.
  std::function<void(const Value& merged)> before_change{};
};

/// 1. Reads every byte once and verifies it. 2. Compares. 3. Only then lets
/// objects take their parts, and overwrites tensors; `state` becomes the merged
/// tree. Throws Error(corrupt) and Error(io) from 1 and Error(invalid), with all
/// misfits, from 2: nothing has been changed then. What an object throws in 3
/// passes through; tensors are written after all objects have taken theirs.
/// Returns how the bytes were read in 1 (BlockReader::how).
///
/// No memory for the whole is taken: 1 leaves the file in the page cache, and 3
/// reads it again, straight into the tensors, and verifies each block again. If
/// the file changed between the two, or cannot be read any more, that is an Error
/// too, and says that the state given was overwritten in part.
std::string resume_into(const store::ShardReader& file, Value& state, const ResumeRules& rules,
                        WorkerPool& readers, WorkerPool& copiers);

}  // namespace understudy::restore
