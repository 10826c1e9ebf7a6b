// Threads that are in a call of ours when the interpreter ends.
//
// Up to Python 3.13 a thread that asks for the GIL while the interpreter ends gets
// pthread_exit instead, which unwinds its stack; the first destructor or noexcept function
// that it meets there ends the whole process. So a daemon thread in a call of ours is
// parked instead, as 3.14 does by itself, and the process ends without it: wherever we take
// the GIL, and where we call what may take it. Between those places nanobind, Python and
// torch call one another; threads that are there are waited for before the interpreter ends.
#pragma once

#include <cxxabi.h>

#include <utility>

namespace understudy::python {

/// Never returns. For a thread that has no interpreter to go back to.
[[noreturn]] void park() noexcept;

/// Calls what runs Python code or takes the GIL.
template <class Call>
decltype(auto) parked_at_exit(Call&& call) {
  try {
    return std::forward<Call>(call)();
  } catch (const abi::__forced_unwind&) {
    park();
  }
}

/// A thread is in a call of ours and holds the GIL, or waits for it in Python's own code.
class Inside {
 public:
  Inside() noexcept;
  ~Inside();
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};

/// It has let the GIL go, in the scope.
class Outside {
 public:
  Outside() noexcept;
  ~Outside();
  Outside(const Outside&) = delete;
  Outside& operator=(const Outside&) = delete;

 private:
  const int depth_;
};

/// Stays outside while the interpreter ends: up to a second for each thread, because
/// whoever ends it may wait for this very thread.
void hold_back() noexcept;

/// For Python's atexit: returns when no other thread is inside, or after some seconds.
/// From now on those that come are held back.
void wait_for_others_inside();
/// For Python's register_at_fork: in a child there are no others.
void forget_others_inside();

}  // namespace understudy::python
