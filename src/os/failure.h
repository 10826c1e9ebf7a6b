// Where errno becomes an Error, and nowhere else.
#pragma once

#include <cerrno>
#include <string_view>

namespace understudy::os {

/// Throws for a call that failed with `error` (an errno): "cannot <verb> <name>:
/// <reason>". Being out of disk or memory is Error(no_space), a missing file
/// Error(not_found), all else Error(io).
[[noreturn]] void fail_call(std::string_view verb, std::string_view name, int error);

/// Makes a call again for as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  for (;;) {
    auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

}  // namespace understudy::os
