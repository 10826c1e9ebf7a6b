// Small helpers with text that the codecs of this room share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/text.h"

namespace understudy::format {

inline constexpr std::string_view kHexDigits = "0123456789abcdef";

/// -1 for what is not a lower-case hex digit.
constexpr int hex_digit_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/// True when all of `text` is UTF-8.
bool is_utf8(std::string_view text) noexcept;

/// Bytes that append_json_string would append. `text` is UTF-8.
std::uint64_t json_string_nbytes(std::string_view text) noexcept;

void append_number(std::string& out, std::uint64_t value);
void append_number(std::string& out, std::int64_t value);

/// Appends two lower-case hex digits for each byte.
void append_hex(std::string& out, std::string_view bytes);

/// The bytes of lower-case hex digits; false when they are not.
bool parse_hex(std::string_view digits, std::string& bytes);

}  // namespace understudy::format
