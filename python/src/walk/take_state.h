// How a state reaches the library: whole, or as the last one again.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "core/gil.h"
#include "walk/last_walk.h"
#include "walk/walk.h"

namespace understudy::python {

/// Captures `state` by `again(Again)`, which may give nothing, where it is the last
/// one again, else by `whole(Value, number)`. Both are called without the GIL.
template <class TakeAgain, class TakeWhole>
auto take_state(std::unique_ptr<LastWalk>& last, const WalkOptions& options, nb::handle state,
                const TakeAgain& again, const TakeWhole& whole) {
  const auto began = std::chrono::steady_clock::now();
  // Moved away: a user's state_dict() or another thread may come here meanwhile.
  auto walk = std::move(last);
  Answers answers;
  if (walk) {
    if (const auto found = walk->again(state, answers)) {
      auto ticket = [&] {
        WithoutGil no_gil;
        return again(*found);
      }();
      if (ticket) {
        last = std::move(walk);
        ticket->count_from(began);
        return std::move(*ticket);
      }
    }
  }
  walk = std::make_unique<LastWalk>();
  Walker walker(options);
  walker.remember(*walk);
  walker.take_answers(std::move(answers));
  const Value value = walker.walk(state);
  auto ticket = [&] {
    WithoutGil no_gil;
    return whole(value, walk->number());
  }();
  if (walk->can_repeat()) last = std::move(walk);
  ticket.count_from(began);
  return ticket;
}

/// Calls `prewarm(Value)` for a state, without the GIL.
template <class Prewarm>
auto prewarm_for(const WalkOptions& options, nb::handle state, const Prewarm& prewarm) {
  const Value value = Walker(options).walk(state);
  WithoutGil no_gil;
  return prewarm(value);
}

}  // namespace understudy::python
