// Pieces of a header's JSON, shared by the plain writer and the sealed one.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/safetensors.h"

namespace understudy::format {

/// Appends `"key":"value"` to an object whose brace is open.
void append_metadata_pair(std::string& out, std::string_view key, std::string_view value);

/// Appends the entries to the header's object, whose brace is open, and closes it.
void append_entries(std::string& out, std::span<const Entry> entries);

/// Throws Error(invalid) for keys that are reserved or there twice.
void refuse_metadata(std::span<const std::pair<std::string, std::string>> metadata);

/// Index of a text that another one equals, or -1.
std::ptrdiff_t find_duplicate(const std::vector<std::string_view>& texts);

}  // namespace understudy::format
