// Errors of the operating system, with its number.
#pragma once

#include "understudy/error.h"

namespace understudy {

/// An Error (io, no_space or not_found) that a system call ended with.
class SystemError : public Error {
 public:
  /// An error with this code and errno; `message` becomes `what()`.
  SystemError(ErrorCode code, const std::string& message, int number)
      : Error(code, message), number_(number) {}
  /// The system's number for it, as errno had it.
  int number() const noexcept { return number_; }

 private:
  int number_;
};

}  // namespace understudy
