// What an input may cost: memory in proportion to its length, and an end.
#pragma once

#include <cstddef>
#include <cstdint>

namespace understudy::fuzz {

/// Runs `feed` over an input of `nbytes`. Ends the program with a message when that
/// takes more memory at a time, or more processor time, than any input may.
template <class Feed>
void within_bounds(std::size_t nbytes, Feed&& feed);

/// Begins to count: what is allocated already does not matter.
void begin_input(std::size_t nbytes) noexcept;
/// Looks whether it was too much.
void end_input() noexcept;
/// The most bytes of memory for a byte of input that was seen, of inputs of some length.
double most_for_a_byte() noexcept;

template <class Feed>
void within_bounds(std::size_t nbytes, Feed&& feed) {
  begin_input(nbytes);
  feed();
  end_input();
}

}  // namespace understudy::fuzz
