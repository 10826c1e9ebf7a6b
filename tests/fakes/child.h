// Doing something in a forked child.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <iostream>

namespace understudy::fakes {

/// Runs `body` in a forked child; its exit status (what body returns, 0 to
/// 124). 125 for an exception, -1 for a signal.
template <class Body>
int in_child(Body body) {
  std::cout.flush();
  const pid_t child = fork();
  if (child == 0) {
    int result = 125;
    try {
      result = body();
    } catch (const std::exception& error) {
      std::cerr << "in the child: " << error.what() << std::endl;
    }
    _exit(result);  // no destructors of the parent's objects
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace understudy::fakes
