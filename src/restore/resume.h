// A file into the caller's own tensors and objects.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/worker_pool.h"
#include "ranks/per_rank.h"
#include "restore/match.h"
#include "restore/rename.h"
#include "store/reader.h"
#include "store/step_files.h"
#include "understudy/value.h"

namespace understudy::restore {

struct ResumeRules {
  bool allow_pickle = false;
  /// Other ranks read the rest: only the blocks that hold what `state` needs are read, and
  /// verified.
  bool reads_part = false;
  MatchRules match{};
  ranks::OwnParts own{};
  Rename rename{};
  /// Called with the merged tree at the end of 3. May be empty.
  std::function<void(const Value& merged)> before_change{};
};

struct ResumeOutcome {
  std::string how;  ///< how the bytes were read in 1 (BlockReader::how)
  /// As in Match; with MatchRules::strict they are empty.
  std::vector<std::string> missing, unexpected, mismatched;
};

/// 1. Reads every byte once and verifies it. 2. Compares. 3. Reads what is new into
/// private memory, and has objects and `before_change` prepare all that may fail. 4. Only then
/// lets objects take their parts, and overwrites tensors; `state` becomes the merged
/// tree. Throws Error(corrupt) and Error(io) from 1, and Error(invalid), with all
/// misfits, from 2; what 3 throws passes through. Nothing has been changed then. An
/// Error from 4 says that the state given was overwritten in part; what else an
/// object throws there passes through and means the same. Tensors are written after all
/// objects have taken theirs.
///
/// No memory for the whole is taken: 1 leaves the file in the page cache, and 4
/// reads it again, straight into the tensors, and verifies each block again.
ResumeOutcome resume_into(const store::ShardReader& file, Value& state, const ResumeRules& rules,
                          WorkerPool& readers, WorkerPool& copiers);

/// The same of a step of several shards. Always as with `reads_part`, and only those shards are
/// opened. What is verified in 1 is then known, and so comes after the comparison.
ResumeOutcome resume_shards(const store::StepFolder& step, store::StepShards& shards, Value& state,
                            const ResumeRules& rules, WorkerPool& readers, WorkerPool& copiers);

}  // namespace understudy::restore
