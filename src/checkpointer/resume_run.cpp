#include "checkpointer/resume_run.h"

#include <exception>

#include "base/error.h"
#include "format/metadata.h"
#include "restore/choose_step.h"
#include "restore/load_shards.h"
#include "restore/resume.h"
#include "store/foreign.h"
#include "store/look.h"

namespace understudy {
namespace {

// One try, at one step.
class Try {
 public:
  Try(const ResumeTools& tools, const ResumeOptions& how, ResumeReport& report)
      : tools_(tools), how_(how), report_(report) {}

  void run(OpenStep& found, Value& state) {
    report_.step = found.folder.step;
    try {
      naming_another(tools_.directory, found.folder.step, [&] { report(resume(found, state)); });
    } catch (const Error&) {
      // What others said of the step is no damage that was found here.
      if (disagreement_) std::rethrow_exception(disagreement_);
      throw;
    }
  }

  // The caller's state is another now, in part at least.
  bool has_changed() const { return has_changed_; }
  // The others have been told how it looks here.
  bool has_looked() const { return has_looked_; }

 private:
  restore::ResumeOutcome resume(OpenStep& found, Value& state) {
    const restore::ResumeRules rules{.allow_pickle = tools_.allow_pickle,
                                     .reads_part = tools_.all_agree != nullptr,
                                     .match = {how_.strict, how_.convert, how_.names},
                                     .own = {.rank = tools_.rank,
                                             .count = tools_.count,
                                             .names = how_.per_rank,
                                             .strict = how_.strict,
                                             .wanted = how_.names},
                                     .rename = {how_.rename_prefixes, how_.rename},
                                     .before_change = hook()};
    if (found.folder.manifest->index) {
      return restore::resume_shards(found.folder, found.shards, state, rules, tools_.readers,
                                    tools_.copiers);
    }
    return restore::resume_into(found.shards.at(0), state, rules, tools_.readers, tools_.copiers);
  }

  void report(restore::ResumeOutcome outcome) {
    report_.reader = std::move(outcome.how);
    report_.missing = std::move(outcome.missing);
    report_.unexpected = std::move(outcome.unexpected);
    report_.mismatched = std::move(outcome.mismatched);
  }

  std::function<void(const Value&)> hook() {
    return [this](const Value& merged) {
      if (how_.prepare) how_.prepare(merged);
      has_looked_ = true;
      try {
        if (tools_.all_agree) tools_.all_agree();
        // Before the state changes: a failure here has changed nothing in memory.
        if (how_.discard_newer) report_.discarded = tools_.discard_newer(report_.step);
      } catch (...) {
        if (tools_.all_agree) disagreement_ = std::current_exception();
        throw;
      }
      has_changed_ = true;
      if (tools_.has_changed != nullptr) *tools_.has_changed = true;
    };
  }

  const ResumeTools& tools_;
  const ResumeOptions& how_;
  ResumeReport& report_;
  bool has_looked_ = false;
  bool has_changed_ = false;
  std::exception_ptr disagreement_;
};

// A step of several files that a writer has removed meanwhile is no damaged one.
bool is_gone(const os::Directory& directory, const OpenStep& found) {
  return found.folder.manifest->index &&
         !store::is_still_there(directory, found.folder.path.filename(), *found.folder.folder);
}

}  // namespace

Checkpoint restore_run(const os::Directory& directory, const RestoreOptions& how, bool allow_pickle,
                       WorkerPool& readers) {
  LoadFileOptions load;
  load.names = how.names;
  load.allow_pickle = allow_pickle;
  for (int turn = 0; turn < store::kReadTurns; ++turn) {
    auto found = open_chosen_step(directory, how.step);
    if (!found) {
      const auto other = store::name_checkpoint_in(directory);
      fail(ErrorCode::not_found, "there is no step in {}{}", directory.name(),
           other.empty() ? "" : "; what lies there is " + other);
    }
    try {
      return naming_another(directory, found->folder.step, [&] {
        auto loaded = restore::load_step(found->folder, found->shards, load, readers);
        return Checkpoint{found->folder.step, std::move(loaded.state),
                          metadata_from_json(found->folder.manifest->metadata_json), "disk",
                          std::move(loaded.how)};
      });
    } catch (const Error&) {
      if (!is_gone(directory, *found)) throw;
    }
  }
  store::fail_restless(directory.name());
}

std::optional<ResumeReport> resume_run(const ResumeTools& tools, Value& state,
                                       const ResumeOptions& how) {
  ResumeReport report;
  report.source = "disk";
  std::optional<std::int64_t> below;
  for (int turn = 0; turn < store::kReadTurns;) {
    Try attempt(tools, how, report);
    std::optional<OpenStep> found;
    try {
      found = open_chosen_step(tools.directory, how.step, below);
      if (!found && !report.skipped.empty()) {
        fail(ErrorCode::corrupt, "no step in {} is whole; the newest: {}", tools.directory.name(),
             report.skipped.front().reason);
      }
      if (!found) return {};
      attempt.run(*found, state);
      return report;
    } catch (const DamagedStep& e) {
      // Half of one step under another must not be continued from silently.
      if (how.on_damage == OnDamage::error || how.step || attempt.has_changed()) throw;
      report.skipped.push_back({e.step(), e.reason()});
      below = e.step();
    } catch (const Error&) {
      if (!found || attempt.has_looked() || !is_gone(tools.directory, *found)) throw;
      ++turn;
    }
  }
  store::fail_restless(tools.directory.name());
}

}  // namespace understudy
