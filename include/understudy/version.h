// The version of the library, and of the format it writes.
#pragma once

#include <string_view>

namespace understudy {

/// Version of the library and of the Python package.
inline constexpr std::string_view kVersion = "0.1.0";
/// Version of the format that is written. Files with another major version are refused.
inline constexpr int kFormatMajor = 1;
/// Files with another minor version are read.
inline constexpr int kFormatMinor = 0;

}  // namespace understudy
