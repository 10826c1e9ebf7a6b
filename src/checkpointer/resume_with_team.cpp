// Resuming with other ranks: rank 0 chooses the step, all look at it, and then all change.
#include <utility>

#include "checkpointer/checkpointer_state.h"
#include "ranks/wire.h"
#include "restore/choose_step.h"
#include "store/discard.h"

namespace understudy {

std::optional<std::int64_t> CheckpointerState::resume_with_team(Value& state,
                                                                const ResumeOptions& given) {
  std::vector<ResumeReport::Skipped> skipped;
  std::optional<std::int64_t> below;
  for (;;) {
    auto how = given;
    how.on_damage = OnDamage::error;
    how.step = team_->choose_step("resume", [&] { return chosen_step(given.step, below); });
    if (!how.step && skipped.empty()) return {};
    if (!how.step) {
      fail(ErrorCode::corrupt, "no step in {} is whole; the newest: {}", folder_.path().native(),
           skipped.front().reason);
    }
    const bool may_skip = given.on_damage == OnDamage::previous && !given.step;
    try {
      team_->look_then_do("resume", *how.step, [&](const std::function<void()>& all_agree) {
        try {
          resume_alone(state, how, all_agree, skipped);
        } catch (const DamagedStep& e) {
          if (may_skip) throw Error(e.code(), e.reason());  // of several, each is told shortly
          throw;
        }
      });
      return how.step;
    } catch (const ToldFailure& e) {
      // All got it, before anything was changed.
      if (!may_skip || e.code() != ErrorCode::corrupt) throw;
      skipped.push_back({*how.step, e.what()});
      below = how.step;
    }
  }
}

// Rank 0 gives them up, and the others are told which.
std::vector<std::int64_t> CheckpointerState::discard_with_team(std::int64_t step) {
  const auto text = team_->first_does("discarding of newer steps", step, [&] {
    std::string said;
    for (const auto discarded : store::discard_newer(*take_lock(), step)) {
      ranks::put_number(said, static_cast<std::uint64_t>(discarded));
    }
    return said;
  });
  std::vector<std::int64_t> steps;
  for (ranks::WireReader in(text); !in.rest().empty();) {
    const auto discarded = in.number();
    if (!discarded) fail(ErrorCode::corrupt, "what rank 0 said of newer steps makes no sense");
    steps.push_back(static_cast<std::int64_t>(*discarded));
  }
  return steps;
}

}  // namespace understudy
