// Errors: one exception type with a small set of codes.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace understudy {

/// What went wrong, coarse enough to act on. The message has the details.
enum class ErrorCode {
  invalid,      ///< the caller's argument or call does not make sense
  unsupported,  ///< this build, machine or format version cannot do it
  not_found,    ///< nothing there
  corrupt,      ///< bytes are not what was written
  io,           ///< the operating system refused or failed
  no_space,     ///< disk, memory or shared memory is short
  busy,         ///< somebody else holds it
  timeout,      ///< the time given ran out
  closed,       ///< the handle was closed, or belongs to another process
};

/// The code's name as users see it, for example "not_found".
std::string_view to_string(ErrorCode code) noexcept;

/// The only exception the library throws on purpose. `what()` is one sentence
/// that names what failed, where (file, offset, tensor path) and why; names in it
/// are safe to print (understudy/text.h).
class Error : public std::runtime_error {
 public:
  /// An error with this code; `message` becomes `what()`.
  Error(ErrorCode code, const std::string& message);
  /// What kind of failure it is.
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace understudy
