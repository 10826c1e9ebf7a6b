// Text by fmt. Compiled once: header-only, its formatting costs the compiler
// seconds for each file that asks for it.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace understudy {

std::string vformat_text(fmt::string_view format, fmt::format_args arguments);

/// As fmt::format, which nothing else in the library calls.
template <class... Args>
[[nodiscard]] std::string format_text(fmt::format_string<Args...> format, Args&&... args) {
  return vformat_text(format, fmt::make_format_args(args...));
}

/// Bytes of the UTF-8 sequence that begins `text`, which is not empty: 1 to 4, or
/// 0 when it is not one (surrogates and overlong forms are not).
std::size_t utf8_sequence(std::string_view text) noexcept;

/// At most `most` bytes of `text`, cut between characters.
std::string_view beginning_of(std::string_view text, std::size_t most) noexcept;

/// A name or a text in quotes for a message: escaped as in understudy/text.h, cut
/// after some 80 bytes.
std::string in_quotes(std::string_view text);

}  // namespace understudy
