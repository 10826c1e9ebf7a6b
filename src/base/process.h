// The one guard against use by a forked child.
//
// A child has copies of the parent's objects, but not its threads: locks may be held
// by one of those for ever, condition variables wait in their destructor for threads
// that are not there, and rings, shared memory and temporary files are the parent's.
// So whatever has one of these is owned by a HomePtr, which a child does not follow.
#pragma once

#include <memory>
#include <utility>

#include "understudy/process.h"

namespace understudy {

/// Deletes in the process that made the object. A forked child leaves it as it is.
class HomeDelete {
 public:
  template <class T>
  void operator()(T* object) const noexcept {
    if (home_.is_here()) delete object;
  }

 private:
  HomeProcess home_;
};

/// Becomes a std::shared_ptr that does the same.
template <class T>
using HomePtr = std::unique_ptr<T, HomeDelete>;

template <class T, class... Arguments>
HomePtr<T> make_home(Arguments&&... arguments) {
  return HomePtr<T>(new T(std::forward<Arguments>(arguments)...));
}

}  // namespace understudy
