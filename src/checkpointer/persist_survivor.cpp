#include "checkpointer/persist_survivor.h"

#include <memory>

#include "checkpointer/sources.h"
#include "restore/load.h"
#include "stage/snapshot.h"
#include "store/folder_lock.h"

namespace understudy {

store::Committed persist_shard(store::FolderLock& lock, const store::StepFolder& step,
                               const store::ShardReader& shard, store::Writer& writer,
                               WorkerPool& readers, const store::CommitOptions& options,
                               std::atomic<std::uint64_t>* done) {
  // Over a private mapping. Pickles stay pickled.
  LoadFileOptions how;
  how.mmap = true;
  how.allow_pickle = true;
  const auto state = std::make_shared<const Value>(restore::load(shard, how, readers).state);
  StateSource source(*state, header_metadata({}), state);
  return store::commit_step(lock, step.step, source, step.manifest->metadata_json, writer, options,
                            done);
}

}  // namespace understudy
