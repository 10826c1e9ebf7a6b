// What goes to the terminal, or into a pipe.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "understudy/error.h"
#include "understudy/text.h"

namespace understudy::cli {

using Json = nlohmann::ordered_json;  // fields in the order in which we name them

/// Writes to standard output. A reader who has gone is no error: the rest is
/// dropped. Anything else that goes wrong is Error(io).
void print(std::string_view text);
/// The document, in ASCII, with a newline.
void print_json(const Json& document);
/// Ends the output; throws Error(io) when it did not arrive.
void flush_output();

/// What a document says of an error.
Json error_json(ErrorCode code, std::string_view message);

/// "understudy: error: ..." on standard error.
void print_error(std::string_view message) noexcept;

/// "512 B", "1.5 KiB", "2.0 GiB".
std::string human_size(std::uint64_t nbytes);

/// "1 tensor", "2 tensors".
std::string counted(std::uint64_t n, std::string_view noun);

}  // namespace understudy::cli
