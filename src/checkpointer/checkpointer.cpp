#include "understudy/checkpointer.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "checkpointer/checkpointer_state.h"
#include "checkpointer/options.h"
#include "checkpointer/resume_run.h"
#include "checkpointer/sources.h"
#include "format/metadata.h"
#include "os/system.h"
#include "restore/load.h"
#include "stage/snapshot.h"
#include "store/commit.h"
#include "store/discard.h"
#include "store/foreign.h"
#include "store/look.h"

namespace understudy {
namespace fs = std::filesystem;

CheckpointerState::CheckpointerState(CheckpointerOptions given)
    : options(checked(std::move(given))),
      team_(options.peers && options.peers->count() > 1
                ? std::make_unique<Team>(options.peers, options.timeout)
                : nullptr),
      own_state_(team_ ? std::make_unique<RankState>(options.peers->rank()) : nullptr),
      folder_(open_run(options.directory, team_.get())),
      survival_(options.survive.is_on() ? std::make_unique<Survival>(options, folder_) : nullptr),
      stager_(stager_options(options),
              survival_ ? survival_->make_files() : memory::MakeImageFile{}),
      writer_({.low_priority = true,
               .choice = options.writer,
               .max_rate = options.max_write_rate.value_or(0)}),
      queue_(options.images),
      readers_("us-read", os::share_of_this_rank(restore::kReadThreads)) {}

CheckpointerState::~CheckpointerState() = default;

// The first call takes the folder's lock, for as long as the checkpointer is open.
std::shared_ptr<store::FolderLock> CheckpointerState::take_lock() {
  std::lock_guard lock(mutex_);
  require_open();
  if (!lock_) {
    const os::Directory& directory = folder_.require();
    store::TakeOver take_over;
    if (survival_) {
      survival_->open();
      take_over = [this](const auto& before, const auto& now) {
        survival_->take_over(before, now);
      };
    }
    auto lock = store::lock_folder(directory.reopen(), take_over);
    if (survival_) survival_->settle(lock->holder());
    lock_ = std::move(lock);
    newest_.look(directory);
  }
  return lock_;
}

// What can be known at once.
std::shared_ptr<store::FolderLock> CheckpointerState::begin_save(std::int64_t step,
                                                                 bool overwrite) {
  if (step < 0) fail(ErrorCode::invalid, "a step must not be negative, but is {}", step);
  const os::Directory& directory = folder_.require();
  auto lock = take_lock();
  if (!overwrite) {
    if (queue_.has(step)) fail(ErrorCode::invalid, "step {} is being saved already", step);
    store::require_new_step(directory, step);
  }
  return lock;
}

template <class Capture>
std::optional<Ticket<fs::path>> CheckpointerState::save(std::int64_t step, const Value* state,
                                                        const SaveOptions& how,
                                                        const Capture& capture) {
  throw_unseen_failure();
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
  auto job = std::make_shared<SaveJob>();
  job->ticket = ticket;
  job->result = std::make_shared<std::optional<fs::path>>();
  job->step = step;
  job->metadata = metadata_to_json(how.metadata);
  job->overwrite = how.overwrite;
  job->urgent = how.urgent;
  if (state != nullptr) require_storable(*state);
  job->lock = begin_save(step, how.overwrite);
  persister_.start();  // now, so that a thread that the system refuses has changed nothing
  // What is being written must not hold up this one either.
  if (how.urgent) job->unlimited = std::make_unique<store::Unlimited>(writer_);
  const auto newer_step = newest_.above(step);
  // A capture that fails drops nothing, unless there is no memory but theirs.
  if (how.urgent && !queue_.has_free_image()) queue_.drop_waiting(step);
  try {
    job->capturing = capture(ticket);
    if (!job->capturing) return {};
  } catch (const Error& e) {
    if (e.code() != ErrorCode::busy || options.when_busy != WhenBusy::skip) throw;
    ticket->set_failed(std::current_exception());
    return Ticket<fs::path>{ticket, job->result};
  }
  {
    std::lock_guard lock(ticket->mutex);
    ticket->total_nbytes = ticket->metrics.nbytes;
    ticket->metrics.newer_step = newer_step;
  }
  Ticket<fs::path> handle(ticket, job->result);
  publish(job);
  if (how.urgent) queue_.drop_waiting(step);
  std::lock_guard lock(ticket->mutex);
  ticket->metrics.blocked_s = ticket->elapsed();
  return handle;
}

// All of it, or nothing: a save that throws does not happen.
void CheckpointerState::publish(const std::shared_ptr<SaveJob>& job) {
  std::lock_guard lock(mutex_);
  require_open();
  tickets_.push_back(job->ticket);
  try {
    queue_.push(job);
    try {
      if (survival_ && job->capturing) {
        job->sealed = survival_->seal(job->step, job->capturing, job->metadata, job->ticket);
      }
      persister_.post([this] { persist_next(); });
    } catch (...) {
      // The empty turn of one that was dropped may have begun it; then it goes on.
      if (queue_.withdraw(*job)) throw;
    }
  } catch (...) {
    tickets_.pop_back();
    throw;
  }
}

Ticket<std::uint64_t> CheckpointerState::prewarm(const Value& state) {
  if (survival_) take_lock();  // images are made in its folder in memory
  std::shared_ptr<TicketState> ticket = make_home<TicketState>();
  auto result = std::make_shared<std::optional<std::uint64_t>>();
  stager_.prewarm(state, ticket, result);
  return {ticket, result};
}

store::Committed CheckpointerState::persist(SaveJob& job) {
  if (job.team) return persist_with_team(job);
  if (job.survivor) return persist_from_memory(job);
  const auto checksums = job.sealed.valid() ? job.sealed.get() : SealedChecksums{};
  const auto snapshot = job.capturing->take();
  const auto source =
      source_of(snapshot.shared_state()->contents(), header_metadata({}), {}, checksums);
  folder_.require();
  return store::commit_step(*job.lock, job.step, *source, job.metadata, writer_,
                            {.overwrite = job.overwrite, .keep = options.keep},
                            &job.ticket->done_nbytes);
}

// Posted once for each job; one that was dropped leaves its turn empty.
void CheckpointerState::persist_next() {
  const auto job = queue_.begin_next();
  if (!job) return;
  if (job->dropped_for) {  // and its ticket was told then
    team_->commit().tell_dropped(job->team->save, {job->step, *job->dropped_for});
    return;
  }
  std::exception_ptr failure;
  try {
    const auto done = persist(*job);
    newest_.note_committed(job->step);
    if (survival_) survival_->let_go(job->step);
    folder_.require();  // moved while it was written: not where the result says
    *job->result = folder_.path() / done.path.filename();
    {
      std::lock_guard lock(mutex_);
      unremoved_ = done.unremoved;
    }
    std::lock_guard lock(job->ticket->mutex);
    job->ticket->metrics.durable_s = job->ticket->elapsed(done.durable_at);
    job->ticket->metrics.writer = done.writer;
    job->ticket->metrics.unremoved = done.unremoved;
  } catch (...) {
    failure = std::current_exception();
  }
  queue_.end(*job, failure);
}

// A failure is thrown once: here, or by whoever waited for its ticket.
void CheckpointerState::throw_unseen_failure() {
  std::lock_guard lock(mutex_);
  std::exception_ptr first;
  std::erase_if(tickets_, [&](const auto& ticket) {
    std::lock_guard inner(ticket->mutex);
    if (!ticket->is_done) return false;
    if (!ticket->failure || ticket->is_seen) return true;
    if (first) return false;
    first = ticket->failure;
    ticket->is_seen = true;
    return true;
  });
  if (first) std::rethrow_exception(first);
}

// Every step is saved all the same, so it is the last thing that is said, and once.
void CheckpointerState::throw_unremoved() {
  std::lock_guard lock(mutex_);
  const auto what = std::exchange(unremoved_, {});
  if (what.empty()) return;
  fail(ErrorCode::io, "all steps of {} are saved, but {}", folder_.path().native(), what);
}

bool CheckpointerState::wait(Timeout timeout) {
  const auto began = std::chrono::steady_clock::now();
  for (const auto& ticket : tickets()) {
    auto left = timeout;
    if (left) *left -= std::chrono::steady_clock::now() - began;
    if (!TicketBase(ticket).wait_done_for(left)) return false;
  }
  throw_unseen_failure();
  return true;
}

void CheckpointerState::close() {
  if (!home_.is_here()) return;
  {
    std::lock_guard lock(mutex_);
    is_closed_ = true;
  }
  for (const auto& ticket : tickets()) TicketBase(ticket).wait_done_for({});
  if (survival_) survival_->close();
  stager_.close();
  {
    std::lock_guard lock(mutex_);
    lock_.reset();
  }
  throw_unseen_failure();
  throw_unremoved();
}

Checkpoint CheckpointerState::restore(const RestoreOptions& given) {
  auto how = given;
  const os::Directory& directory = folder_.require();
  if (auto found = restore_from_memory(how)) return std::move(*found);
  if (team_) how.step = team_->choose_step("restore", [&] { return chosen_step(given.step); });
  return restore_run(directory, how, options.allow_pickle, readers_);
}

// What rank 0 takes for all; the newest may be another one when they look.
std::optional<std::int64_t> CheckpointerState::chosen_step(
    std::optional<std::int64_t> step, std::optional<std::int64_t> below) const {
  if (step) return step;
  const auto newest = store::find_newest_step(
      folder_.require(), [&](std::int64_t number) { return !below || number < *below; });
  return newest ? std::optional(newest->step) : std::nullopt;
}

std::optional<std::int64_t> CheckpointerState::resume(Value& state, const ResumeOptions& how) {
  return team_ ? resume_with_team(state, how) : resume_alone(state, how, {}, {});
}

std::optional<std::int64_t> CheckpointerState::resume_alone(
    Value& state, const ResumeOptions& how, const std::function<void()>& all_agree,
    const std::vector<ResumeReport::Skipped>& skipped) {
  const os::Directory& directory = folder_.require();
  auto from_memory = skipped;
  if (const auto step = resume_from_memory(state, how, from_memory)) return step;
  const auto lock = lock_to_discard(how.discard_newer);
  auto report = resume_run(resume_tools(directory, lock, all_agree), state, how);
  if (!report) return {};
  const auto step = report->step;
  report->skipped.insert(report->skipped.begin(), from_memory.begin(), from_memory.end());
  newest_.look(directory);
  std::lock_guard guard(resumed_mutex);
  resumed = std::move(report);
  return step;
}

Checkpointer::Checkpointer(CheckpointerOptions options)
    : state_(make_home<CheckpointerState>(std::move(options))) {}

Checkpointer::~Checkpointer() {
  if (!state_) return;
  try {
    state_->close();
  } catch (...) {  // close() is there for those who want to know
  }
}

Checkpointer::Checkpointer(Checkpointer&&) noexcept = default;
Checkpointer& Checkpointer::operator=(Checkpointer&&) noexcept = default;

namespace {

// The ticket of a save tells when it is durable, not when it is captured.
const auto ignore_captured = [](Capturing&, std::exception_ptr) {};

}  // namespace

Ticket<fs::path> Checkpointer::save(std::int64_t step, const Value& state,
                                    const SaveOptions& options, std::uint64_t number) {
  state_->require_here();
  if (state_->has_team()) return state_->save_with_team(step, state, number, options);
  const auto own = state_->options.peers ? ranks::alone(state) : state;
  return *state_->save(step, &own, options, [&](const auto& ticket) {
    return state_->stager().capture(own, number, ticket, false, ignore_captured);
  });
}

std::optional<Ticket<fs::path>> Checkpointer::save_again(std::int64_t step, const Again& again,
                                                         const SaveOptions& options) {
  state_->require_here();
  if (state_->has_team()) return state_->save_again_with_team(step, again, options);
  return state_->save(step, nullptr, options, [&](const auto& ticket) {
    return state_->stager().capture(again, ticket, false, ignore_captured);
  });
}

Ticket<std::uint64_t> Checkpointer::prewarm(const Value& state) {
  state_->require_here();
  return state_->prewarm(state);
}

Checkpoint Checkpointer::restore(const RestoreOptions& options) {
  state_->require_here();
  return state_->restore(options);
}

std::optional<std::int64_t> Checkpointer::resume(Value& state, const ResumeOptions& options) {
  state_->require_here();
  return state_->resume(state, options);
}

void Checkpointer::fail_save(std::int64_t step, const std::exception& why) {
  state_->require_here();
  state_->fail_save(step, why);
}

void Checkpointer::fail_resume(const std::exception& why) {
  state_->require_here();
  state_->fail_resume(why);
}

std::optional<ResumeReport> Checkpointer::resumed() const {
  state_->require_here();
  std::lock_guard lock(state_->resumed_mutex);
  return state_->resumed;
}

std::vector<std::int64_t> Checkpointer::steps() const {
  state_->require_here();
  std::vector<std::int64_t> steps;
  for (const auto& folder : store::look_at_steps(state_->folder().require())) {
    if (folder.is_complete()) steps.push_back(folder.step);
  }
  return steps;
}

std::string Checkpointer::foreign_checkpoint() const {
  state_->require_here();
  return store::name_checkpoint_in(state_->folder().require());
}

std::optional<std::int64_t> Checkpointer::latest() const {
  const auto all = steps();
  if (all.empty()) return {};
  return all.back();
}

bool Checkpointer::wait(Timeout timeout) {
  state_->require_here();
  return state_->wait(timeout);
}

void Checkpointer::close() {
  state_->close();
}

const fs::path& Checkpointer::directory() const {
  return state_->folder().path();
}

}  // namespace understudy
