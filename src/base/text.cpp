#include "base/text.h"

#include <algorithm>
#include <optional>

#include "understudy/text.h"

namespace understudy {
namespace {

// The character that a sequence of UTF-8 stands for.
char32_t character(std::string_view sequence) {
  const auto lead = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return lead;
  char32_t code = lead & (0x7fu >> sequence.size());
  for (const char c : sequence.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3f);
  return code;
}

// True for what could move the cursor, or let a name look like another.
bool is_harmful(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) ||       // controls
         c == 0x61c || c == 0x200e || c == 0x200f ||  // direction marks
         (c >= 0x2028 && c <= 0x202e) ||              // separators, direction
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

std::string escape_of(char32_t c) {
  switch (c) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  const auto code = static_cast<unsigned>(c);
  if (c < 0x100) return format_text("\\x{:02x}", code);
  return format_text("\\u{:04x}", code);
}

std::string escape_all(std::string_view text, std::string_view with_backslash) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto n = utf8_sequence(text);
    const auto shown = text.substr(0, std::max<std::size_t>(n, 1));
    if (n == 0) {
      out += escape_of(static_cast<unsigned char>(text[0]));
    } else if (const auto c = character(shown); is_harmful(c)) {
      out += escape_of(c);
    } else {
      if (with_backslash.find(text[0]) != with_backslash.npos) out += '\\';
      out += shown;
    }
    text.remove_prefix(shown.size());
  }
  return out;
}

}  // namespace

std::string vformat_text(fmt::string_view format, fmt::format_args arguments) {
  return fmt::vformat(format, arguments);
}

std::size_t utf8_sequence(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t n = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < n) return 0;
  // The second byte excludes overlong forms, surrogates and what lies beyond Unicode.
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < n; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return n;
}

std::string_view beginning_of(std::string_view text, std::size_t most) noexcept {
  if (text.size() <= most) return text;
  auto end = most;
  // Three bytes at most follow the first of a character.
  while (end > 0 && most - end < 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 80;  // enough to recognise a name in a one-line message
  const auto shown = beginning_of(text, kShown);
  return "\"" + escape_all(shown, "\\\"") + (shown.size() < text.size() ? "...\"" : "\"");
}

std::string printable(std::string_view text) {
  return escape_all(text, "");
}

std::string escape(std::string_view name) {
  return escape_all(name, "\\");
}

}  // namespace understudy
