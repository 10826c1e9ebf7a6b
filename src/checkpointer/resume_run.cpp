#include "checkpointer/resume_run.h"

#include "base/error.h"
#include "format/metadata.h"
#include "restore/choose_step.h"
#include "restore/load_shards.h"
#include "restore/resume.h"
#include "store/foreign.h"

namespace understudy {
namespace {

// One try, at one step.
class Try {
 public:
  Try(const ResumeTools& tools, const ResumeOptions& how, ResumeReport& report)
      : tools_(tools), how_(how), report_(report) {}

  void run(const OpenStep& found, Value& state) {
    report_.step = found.folder.step;
    naming_another(tools_.directory, found.folder.step, [&] {
      auto outcome = resume(found, state,
                            {.allow_pickle = tools_.allow_pickle,
                             .match = {how_.strict, how_.convert, how_.names},
                             .rename = {how_.rename_prefixes, how_.rename},
                             .before_change = hook()});
      report_.reader = std::move(outcome.how);
      report_.missing = std::move(outcome.missing);
      report_.unexpected = std::move(outcome.unexpected);
      report_.mismatched = std::move(outcome.mismatched);
    });
  }

  // The caller's state is another now, in part at least.
  bool has_changed() const { return has_changed_; }

 private:
  restore::ResumeOutcome resume(const OpenStep& found, Value& state,
                                const restore::ResumeRules& rules) const {
    if (!found.folder.manifest->index) {
      return restore::resume_into(found.shards.front(), state, rules, tools_.readers,
                                  tools_.copiers);
    }
    LoadFileOptions load;
    load.allow_pickle = tools_.allow_pickle;
    auto loaded = restore::load_shards(found.folder, found.shards, load, tools_.readers);
    auto outcome = restore::resume_loaded(loaded.state, found.folder.path.native(), state, rules,
                                          tools_.copiers);
    outcome.how = std::move(loaded.how);
    return outcome;
  }

  std::function<void(const Value&)> hook() {
    return [this](const Value& merged) {
      if (how_.prepare) how_.prepare(merged);
      // Before the state changes: a failure here has changed nothing in memory.
      if (how_.discard_newer) report_.discarded = tools_.discard_newer(report_.step);
      if (tools_.all_agree) tools_.all_agree();
      has_changed_ = true;
    };
  }

  const ResumeTools& tools_;
  const ResumeOptions& how_;
  ResumeReport& report_;
  bool has_changed_ = false;
};

}  // namespace

Checkpoint restore_run(const os::Directory& directory, const RestoreOptions& how, bool allow_pickle,
                       WorkerPool& readers) {
  LoadFileOptions load;
  load.names = how.names;
  load.allow_pickle = allow_pickle;
  const auto found = open_chosen_step(directory, how.step);
  if (!found) {
    const auto other = store::name_checkpoint_in(directory);
    fail(ErrorCode::not_found, "there is no step in {}{}", directory.name(),
         other.empty() ? "" : "; what lies there is " + other);
  }
  return naming_another(directory, found->folder.step, [&] {
    auto loaded = restore::load_step(found->folder, found->shards, load, readers);
    return Checkpoint{found->folder.step, std::move(loaded.state),
                      metadata_from_json(found->folder.manifest->metadata_json), "disk",
                      std::move(loaded.how)};
  });
}

std::optional<ResumeReport> resume_run(const ResumeTools& tools, Value& state,
                                       const ResumeOptions& how) {
  ResumeReport report;
  report.source = "disk";
  std::optional<std::int64_t> below;
  for (;;) {
    Try attempt(tools, how, report);
    try {
      const auto found = open_chosen_step(tools.directory, how.step, below);
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
    }
  }
}

}  // namespace understudy
