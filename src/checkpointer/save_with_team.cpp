// Saving with other ranks: the same steps as alone, each of them agreed.
#include <utility>

#include "checkpointer/checkpointer_state.h"
#include "checkpointer/rank_index.h"
#include "checkpointer/sources.h"
#include "format/metadata.h"

namespace understudy {
namespace fs = std::filesystem;

Ticket<fs::path> CheckpointerState::save_with_team(std::int64_t step, const Value& state,
                                                   const SaveOptions& how) {
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
  auto job = std::make_shared<SaveJob>();
  job->ticket = ticket;
  job->result = std::make_shared<std::optional<fs::path>>();
  job->step = step;
  job->overwrite = how.overwrite;
  std::optional<std::int64_t> newer_step;
  job->team = team_->agree(step, how.overwrite ? "overwrite" : "", [&] {
    throw_unseen_failure();
    if (how.urgent) fail(ErrorCode::unsupported, "urgent saves of several ranks are not there yet");
    require_storable(state, /*by_all=*/true);
    job->metadata = metadata_to_json(how.metadata);
    folder_.require();
    if (team_->is_first()) {
      job->lock = begin_save(step, how.overwrite);
      newer_step = newest_.above(step);
    } else {
      std::lock_guard lock(mutex_);
      require_open();
    }
    persister_.start();
    return ranks::split_state(state);
  });
  // From here on the others count on this rank: what fails is told to them in the background.
  try {
    job->capturing =
        stager_.capture(job->team->shard, 0, ticket, false, [](Capturing&, std::exception_ptr) {});
  } catch (const std::exception&) {
    job->capture_failure = std::current_exception();
  }
  {
    std::lock_guard lock(ticket->mutex);
    ticket->total_nbytes = ticket->metrics.nbytes;
    ticket->metrics.newer_step = newer_step;
  }
  Ticket<fs::path> handle(ticket, job->result);
  publish(job);
  std::lock_guard lock(ticket->mutex);
  ticket->metrics.blocked_s = ticket->elapsed();
  return handle;
}

store::Committed CheckpointerState::persist_with_team(SaveJob& job) {
  std::optional<Snapshot> snapshot;
  const RankPart part{[&]() -> std::unique_ptr<store::ShardSource> {
                        if (job.capture_failure) std::rethrow_exception(job.capture_failure);
                        snapshot = job.capturing->take();
                        folder_.require();
                        return source_of(snapshot->shared_state()->contents(), header_metadata({}),
                                         job.team->chunks);
                      },
                      job.team->index};
  auto* const done = &job.ticket->done_nbytes;
  if (!team_->is_first()) {
    return team_->commit().follow(job.team->save, folder_.require(), part, writer_, done);
  }
  const auto make_index = [&](const std::vector<std::string>& additions) {
    return index_of_all(*job.team->assignment, additions);
  };
  return team_->commit().lead(
      job.team->save, *job.lock, part, writer_,
      {{.overwrite = job.overwrite, .keep = options.keep}, job.metadata, make_index}, done);
}

}  // namespace understudy
