#include "understudy/recover.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "checkpointer/persist_survivor.h"
#include "os/path.h"
#include "restore/load.h"
#include "store/commit.h"
#include "store/look.h"
#include "store/reader.h"
#include "store/verify.h"
#include "survive/memory_folder.h"
#include "survive/survivors.h"

namespace understudy {

namespace fs = std::filesystem;

namespace {

os::Directory open_run_folder(const fs::path& directory) {
  os::require_path(directory);
  return os::Directory::open(directory);
}

bool is_on_disk(const os::Directory& run, std::int64_t step) {
  const auto found =
      store::find_newest_step(run, [step](std::int64_t number) { return number == step; });
  return found && found->is_complete();
}

std::string damage_of(const fs::path& step) {
  try {
    const auto check = store::verify_step(step);
    return check.damage.empty() ? std::string() : check.damage.front().what;
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<SurvivorInfo> look(const os::Directory& memory, const os::Directory& run,
                               const std::string& stranger, bool verify) {
  std::vector<SurvivorInfo> all;
  for (const auto& found : survive::look_at(memory, survive::World::of(run))) {
    SurvivorInfo info{.step = found.step,
                      .path = found.path,
                      .nbytes = found.nbytes,
                      .time = found.time,
                      .ranks = found.ranks,
                      .problem = found.problem.empty() ? stranger : found.problem,
                      .is_on_disk = is_on_disk(run, found.step)};
    if (info.is_whole() && verify) info.problem = damage_of(info.path);
    all.push_back(std::move(info));
  }
  return all;
}

}  // namespace

std::vector<SurvivorInfo> list_survivors(const fs::path& directory, const fs::path& memory,
                                         bool verify) {
  const auto run = open_run_folder(directory);
  const auto folder = survive::find_memory(memory, run);
  if (!folder) return {};
  return look(*folder, run, survive::continued_by(*folder, store::last_holder(run)), verify);
}

RecoverReport recover(const fs::path& directory, const RecoverOptions& options) {
  const auto run = open_run_folder(directory);
  if (!survive::find_memory(options.memory, run)) return {};
  const auto folder = survive::MemoryFolder::open(options.memory, run);
  std::string stranger;
  bool is_taken = false;
  const auto lock = store::lock_folder(run.reopen(), [&](const auto& before, const auto& now) {
    is_taken = true;
    stranger = survive::continued_by(folder->directory(), before);
    if (stranger.empty()) survive::set_holders(folder->directory(), before, now);
  });
  if (!is_taken) {
    fail(ErrorCode::busy, "{} is being written by this process", run.name());
  }
  RecoverReport report;
  report.survivors = look(folder->directory(), run, stranger, /*verify=*/!options.discard);
  std::set<std::int64_t> kept;
  store::Writer writer;
  for (auto& one : report.survivors) {
    if (!options.discard && one.is_whole() && !one.is_on_disk) {
      const auto found = store::look_at_step(folder->directory(), store::step_name(one.step));
      WorkerPool readers("us-read", restore::kReadThreads);
      persist_shard(*lock, found, store::open_step(found), writer, readers,
                    {.overwrite = true, .keep = {}});
      report.written.push_back(one.step);
    }
    if (options.discard || one.is_whole()) {
      report.removed.push_back(one.step);
    } else {
      kept.insert(one.step);
    }
  }
  survive::remove_steps(folder->lock(), [&](std::int64_t step) { return kept.contains(step); });
  return report;
}

}  // namespace understudy
