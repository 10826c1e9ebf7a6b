// Threads that are in a call of ours when the interpreter ends.
//
// Up to Python 3.13 a thread that asks for the GIL while the interpreter ends gets
// pthread_exit instead, which unwinds its stack; the first destructor or noexcept function
// that it meets there ends the whole process. So a thread that is unwound into a frame of
// this binding is parked there, as 3.14 does by itself, and the process ends without it
// (__wrap___gxx_personality_v0). The frames of torch, which we call, do not know this;
// threads that are in a call of ours are waited for before the interpreter ends.
#pragma once

namespace understudy::python {

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
