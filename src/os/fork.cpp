#include "os/fork.h"

#include <pthread.h>

#include "os/failure.h"

namespace understudy::os {

void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  if (const int error = pthread_atfork(before, in_parent, in_child); error != 0) {
    fail_call("register", "what is done around fork", error);
  }
}

}  // namespace understudy::os
