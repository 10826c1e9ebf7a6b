// Waiting without the GIL, awake for Ctrl-C.
#pragma once

#include <algorithm>
#include <chrono>

#include "core/gil.h"
#include "understudy/ticket.h"

namespace understudy::python {

/// Calls wait_for(slice) until it is true; false when the time ran out first.
/// Throws what a signal handler raised.
template <class WaitFor>
bool wait_in_slices(Timeout timeout, WaitFor&& wait_for) {
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  // Short enough that Ctrl-C feels prompt; costs nothing.
  constexpr Seconds kSlice{0.05};
  const auto start = Clock::now();
  for (;;) {
    const Seconds left = timeout ? Seconds(*timeout - (Clock::now() - start)) : kSlice;
    bool is_done = false;
    {
      WithoutGil no_gil;
      is_done = wait_for(std::clamp(left, Seconds::zero(), kSlice));
    }
    if (is_done) return true;
    throw_if(PyErr_CheckSignals() != 0);
    if (timeout && Clock::now() - start >= *timeout) return false;
  }
}

}  // namespace understudy::python
