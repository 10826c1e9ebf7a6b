// The version of the library, and of the format it writes.
#pragma once

#include <string_view>

namespace understudy {

inline constexpr std::string_view kVersion = "0.1.0";
inline constexpr int kFormatMajor = 1;
inline constexpr int kFormatMinor = 0;

}  // namespace understudy
