// Small files of the kernel's: lines, numbers, fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace understudy::os {

/// The first line; nothing when there is none.
std::optional<std::string> line_in(const std::string& path);
/// The number that the file is; nothing for anything else ("max" and -1: no limit).
std::optional<std::uint64_t> number_in(const std::string& path);
/// The value behind `key` in a file of "key value" lines, in the unit given.
std::optional<std::uint64_t> field_in(const std::string& path, const std::string& key);

}  // namespace understudy::os
