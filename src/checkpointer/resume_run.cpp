#include "checkpointer/resume_run.h"

#include "base/error.h"
#include "restore/choose_step.h"
#include "restore/resume.h"

namespace understudy {
namespace {

// One try, at one step.
class Try {
 public:
  Try(const ResumeTools& tools, const ResumeOptions& how, ResumeReport& report)
      : tools_(tools), how_(how), report_(report) {}

  void run(const store::StepFolder& folder, Value& state) {
    report_.step = folder.step;
    naming_another(tools_.directory, folder.step, [&] {
      const auto reader = store::open_step(folder);
      report_.reader = restore::resume_into(
          reader, state, {.allow_pickle = tools_.allow_pickle, .before_change = hook()},
          tools_.readers, tools_.copiers);
    });
  }

  // The caller's state is another now, in part at least.
  bool has_changed() const { return has_changed_; }

 private:
  std::function<void(const Value&)> hook() {
    return [this](const Value& merged) {
      if (how_.prepare) how_.prepare(merged);
      // Before the state changes: a failure here has changed nothing in memory.
      if (how_.discard_newer) report_.discarded = tools_.discard_newer(report_.step);
      has_changed_ = true;
    };
  }

  const ResumeTools& tools_;
  const ResumeOptions& how_;
  ResumeReport& report_;
  bool has_changed_ = false;
};

}  // namespace

std::optional<ResumeReport> resume_run(const ResumeTools& tools, Value& state,
                                       const ResumeOptions& how) {
  ResumeReport report;
  report.source = "disk";
  std::optional<std::int64_t> below;
  for (;;) {
    Try attempt(tools, how, report);
    try {
      const auto folder = choose_step(tools.directory, how.step, below);
      if (!folder && !report.skipped.empty()) {
        fail(ErrorCode::corrupt, "no step in {} is whole; the newest: {}", tools.directory.string(),
             report.skipped.front().reason);
      }
      if (!folder) return {};
      attempt.run(*folder, state);
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
