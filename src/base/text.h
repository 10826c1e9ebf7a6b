// Text by fmt. Compiled once: header-only, its formatting costs the compiler
// seconds for each file that asks for it.
#pragma once

#include <fmt/format.h>

#include <string>

namespace understudy {

std::string vformat_text(fmt::string_view format, fmt::format_args arguments);

/// As fmt::format, which nothing else in the library calls.
template <class... Args>
[[nodiscard]] std::string format_text(fmt::format_string<Args...> format, Args&&... args) {
  return vformat_text(format, fmt::make_format_args(args...));
}

}  // namespace understudy
