// What a process does around fork.
#pragma once

namespace understudy::os {

/// Has the functions called at every fork from now on: before it, and after it
/// in the parent and in the child. Throws Error(no_space).
void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

}  // namespace understudy::os
