// What survived in memory of the last process: chosen before the disk where it is as new, read and
// verified like a step on a disk, and then committed to the disk in the background.
#include <utility>

#include "base/error.h"
#include "checkpointer/checkpointer_state.h"
#include "checkpointer/persist_survivor.h"
#include "restore/choose_step.h"
#include "store/discard.h"
#include "store/look.h"

namespace understudy {

// Taken first: who may not write here may not discard either. A save that is still under way would
// come back after the discarding.
std::shared_ptr<store::FolderLock> CheckpointerState::lock_to_discard(bool discard_newer) {
  std::shared_ptr<store::FolderLock> lock;
  if (!discard_newer) return lock;
  if (!team_ || team_->is_first()) lock = take_lock();
  for (const auto& ticket : tickets()) TicketBase(ticket).wait_done_for({});
  return lock;
}

ResumeTools CheckpointerState::resume_tools(const os::Directory& directory,
                                            const std::shared_ptr<store::FolderLock>& lock,
                                            const std::function<void()>& all_agree) {
  return {.directory = directory,
          .allow_pickle = options.allow_pickle,
          .readers = readers_,
          .copiers = stager_.workers(),
          .discard_newer =
              [this, lock](std::int64_t step) {
                if (team_) return discard_with_team(step);
                if (survival_) survival_->discard_above(step);
                return store::discard_newer(*lock, step);
              },
          .all_agree = all_agree,
          .rank = team_ ? options.peers->rank() : 0,
          .count = team_ ? options.peers->count() : 1};
}

namespace {

[[noreturn]] void fail_without_survivor(const RunFolder& run,
                                        const std::vector<ResumeReport::Skipped>& skipped) {
  std::string reasons;
  for (const auto& one : skipped) {
    reasons += format_text("; step {}: {}", one.step, one.reason);
  }
  fail(ErrorCode::not_found, "nothing whole of {} has survived in memory{}", run.path().native(),
       reasons);
}

}  // namespace

// Those that may be read, the newest first, and none that is older than what the disk has; the
// others are told in `skipped`. With Source::memory that there are none is an error.
std::vector<survive::Survivor> CheckpointerState::survivors(
    Source source, const std::optional<std::int64_t>& step,
    std::vector<ResumeReport::Skipped>& skipped) {
  if (source == Source::disk) return {};
  if (!survival_) {
    if (source == Source::automatic) return {};
    fail(ErrorCode::invalid,
         "nothing of {} is in memory: the checkpointer was made without survive",
         folder_.path().native());
  }
  try {
    take_lock();
  } catch (const Error&) {
    // Another process saves here, or this one may only read: what is in memory is not for it.
    if (source == Source::memory) throw;
    return {};
  }
  const auto newest = source == Source::automatic && !step ? chosen_step({}) : std::nullopt;
  skipped = survival_->given_up();
  std::vector<survive::Survivor> found;
  for (auto& one : survival_->survivors()) {
    if (step && one.step != *step) continue;
    if (newest && one.step < *newest) continue;
    if (one.problem.empty()) {
      found.push_back(std::move(one));
    } else {
      skipped.push_back({one.step, "in memory: " + one.problem});
    }
  }
  return found;
}

std::optional<Checkpoint> CheckpointerState::restore_from_memory(const RestoreOptions& how) {
  std::vector<ResumeReport::Skipped> skipped;
  for (const auto& one : survivors(how.source, how.step, skipped)) {
    auto exactly = how;
    exactly.step = one.step;
    try {
      auto found = restore_run(survival_->directory(), exactly, options.allow_pickle, readers_);
      found.source = "memory";
      return found;
    } catch (const DamagedStep& e) {
      survival_->let_go(one.step);
      skipped.push_back({one.step, "in memory: " + e.reason()});
    }
  }
  if (how.source != Source::memory) return {};
  fail_without_survivor(folder_, skipped);
}

std::optional<std::int64_t> CheckpointerState::resume_from_memory(
    Value& state, const ResumeOptions& how, std::vector<ResumeReport::Skipped>& skipped) {
  std::vector<ResumeReport::Skipped> ours;
  for (const auto& one : survivors(how.source, how.step, ours)) {
    auto exactly = how;
    exactly.step = one.step;
    const auto lock = lock_to_discard(how.discard_newer);
    bool has_changed = false;
    auto tools = resume_tools(survival_->directory(), lock, {});
    tools.has_changed = &has_changed;
    try {
      auto report = resume_run(tools, state, exactly);
      report->source = "memory";
      report->skipped = ours;
      persist_survivor(one.step);
      newest_.look(folder_.require());
      const std::lock_guard guard(resumed_mutex);
      resumed = std::move(report);
      return one.step;
    } catch (const DamagedStep& e) {
      // Half of one step under another must not be continued from silently.
      if (has_changed) throw;
      survival_->let_go(one.step);
      ours.push_back({one.step, "in memory: " + e.reason()});
    }
  }
  if (how.source == Source::memory) fail_without_survivor(folder_, ours);
  skipped.insert(skipped.end(), ours.begin(), ours.end());
  return {};
}

// By the ordinary commit, as a save that was made before. What fails is told as of a save: the
// state is resumed already.
void CheckpointerState::persist_survivor(std::int64_t step) {
  auto job = std::make_shared<SaveJob>();
  job->ticket = make_home<TicketState>();
  job->result = std::make_shared<std::optional<std::filesystem::path>>();
  job->step = step;
  try {
    const auto on_disk = store::find_newest_step(
        folder_.require(), [&](std::int64_t number) { return number == step; });
    if (on_disk && on_disk->is_complete()) return survival_->let_go(step);
    auto found = store::look_at_step(survival_->directory(), store::step_name(step));
    auto shard = store::open_step(found);
    job->overwrite = on_disk.has_value();
    job->lock = take_lock();
    job->survivor = std::make_shared<const Survivor>(Survivor{std::move(found), std::move(shard)});
    persister_.start();
    publish(job);
  } catch (const Error&) {
    job->ticket->set_failed(std::current_exception());
    const std::lock_guard lock(mutex_);
    tickets_.push_back(job->ticket);
  }
}

store::Committed CheckpointerState::persist_from_memory(SaveJob& job) {
  return persist_shard(*job.lock, job.survivor->step, job.survivor->shard, writer_, readers_,
                       {.overwrite = job.overwrite, .keep = options.keep},
                       &job.ticket->done_nbytes);
}

}  // namespace understudy
