// Saving with other ranks: the same steps as alone, each of them agreed.
#include <utility>

#include "checkpointer/checkpointer_state.h"
#include "checkpointer/rank_index.h"
#include "checkpointer/sources.h"
#include "format/metadata.h"
#include "ranks/wire.h"

namespace understudy {
namespace fs = std::filesystem;

namespace {

std::string encode_numbers(const std::vector<std::uint64_t>& numbers) {
  std::string out;
  for (const auto number : numbers) ranks::put_number(out, number);
  return out;
}

std::vector<std::uint64_t> decode_numbers(std::string_view text) {
  ranks::WireReader in(text);
  std::vector<std::uint64_t> numbers;
  while (!in.rest().empty()) {
    const auto number = in.number();
    if (!number) fail(ErrorCode::corrupt, "the numbers that rank 0 said make no sense");
    numbers.push_back(*number);
  }
  return numbers;
}

// What must be the same on all ranks.
std::string way_of(const SaveOptions& how) {
  std::string way = how.overwrite ? "overwrite" : "";
  if (how.urgent) way += " urgent";
  for (const auto& name : how.per_rank) ranks::put_text(way, name);
  return way;
}

}  // namespace

Ticket<fs::path> CheckpointerState::save_with_team(std::int64_t step, const Value& state,
                                                   std::uint64_t number, const SaveOptions& how) {
  return save_with_team(step, how, [&] {
    require_storable(state, /*by_all=*/true);
    own_state_->take(state, number, how.per_rank);
  });
}

// Whether it is the last one is known before anything is exchanged: if not, the caller saves it as
// a whole, in the same call of all.
std::optional<Ticket<fs::path>> CheckpointerState::save_again_with_team(std::int64_t step,
                                                                        const Again& again,
                                                                        const SaveOptions& how) {
  std::exception_ptr failure;
  try {
    if (!own_state_->take(again, how.per_rank)) return {};
  } catch (const std::exception&) {
    failure = std::current_exception();  // for all
  }
  return save_with_team(step, how, [&] {
    if (failure) std::rethrow_exception(failure);
  });
}

Ticket<fs::path> CheckpointerState::save_with_team(std::int64_t step, const SaveOptions& how,
                                                   const std::function<void()>& take) {
  struct LetGo {
    RankState& state;
    ~LetGo() { state.let_go(); }
  } const at_the_end{*own_state_};
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
  auto job = std::make_shared<SaveJob>();
  job->ticket = ticket;
  job->result = std::make_shared<std::optional<fs::path>>();
  job->step = step;
  job->overwrite = how.overwrite;
  std::optional<std::int64_t> newer_step;
  job->urgent = how.urgent;
  const auto prepare = [&]() -> Team::Prepared {
    throw_unseen_failure();
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
    // What an urgent one drops makes room.
    const bool is_busy =
        options.when_busy != WhenBusy::wait && !how.urgent && !queue_.has_free_image();
    take();
    return {own_state_->outline(), own_state_->hash(), is_busy};
  };
  std::string busy;
  job->team = team_->agree(step, way_of(how), prepare, busy);
  job->per_rank = how.per_rank;
  if (!job->team) {
    const Error failure(
        ErrorCode::busy,
        format_text("step {} was not saved: all images are leased on {}; earlier saves "
                    "are still being written",
                    step, busy));
    if (options.when_busy == WhenBusy::error) throw failure;
    ticket->set_failed(std::make_exception_ptr(failure));
    return {ticket, job->result};
  }
  // From here on the others count on this rank: what fails is told to them in the background.
  try {
    if (how.urgent) {
      job->unlimited = std::make_unique<store::Unlimited>(writer_);
      drop_waiting_of_all(step);
    }
    job->capturing = own_state_->capture(stager_, job->team->assignment, ticket);
    job->chunks = own_state_->chunks();
    job->index = own_state_->index_part(*job->team->assignment);
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

// Rank 0's queue decides: it knows best what has begun. What it drops keeps its turn there, for a
// rank that is waiting for its word on it by now.
void CheckpointerState::drop_waiting_of_all(std::int64_t urgent_step) {
  const auto text = team_->first_does("dropping of saves", urgent_step, [&] {
    return encode_numbers(queue_.drop_for_all(urgent_step));
  });
  if (!team_->is_first()) queue_.drop_numbers(decode_numbers(text), urgent_step);
}

// Only the others can be told; whoever fails knows why.
void CheckpointerState::fail_save(std::int64_t step, const std::exception& why) {
  if (team_) team_->fail_agree(step, why);
}

void CheckpointerState::fail_resume(const std::exception& why) {
  if (team_) team_->fail_to_look("resume", why);
}

store::Committed CheckpointerState::persist_with_team(SaveJob& job) {
  std::optional<Snapshot> snapshot;
  const RankPart part{[&]() -> std::unique_ptr<store::ShardSource> {
                        if (job.capture_failure) std::rethrow_exception(job.capture_failure);
                        snapshot = job.capturing->take();
                        folder_.require();
                        return source_of(snapshot->shared_state()->contents(), header_metadata({}),
                                         *job.chunks);
                      },
                      job.index};
  auto* const done = &job.ticket->done_nbytes;
  if (!team_->is_first()) {
    return team_->commit().follow(job.team->save, folder_.require(), part, writer_, done);
  }
  const auto make_index = [&](const std::vector<std::string>& additions) {
    return index_of_all(*job.team->assignment, additions, job.per_rank);
  };
  return team_->commit().lead(
      job.team->save, *job.lock, part, writer_,
      {{.overwrite = job.overwrite, .keep = options.keep}, job.metadata, make_index}, done);
}

}  // namespace understudy
