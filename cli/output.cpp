#include "output.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "understudy/error.h"

namespace understudy::cli {
namespace {

void require_written(bool is_written) {
  if (is_written || errno == EPIPE) return;
  throw Error(ErrorCode::io, fmt::format("cannot write the output: {}", std::strerror(errno)));
}

struct Character {
  char32_t code = 0;
  std::size_t length = 0;  ///< bytes; 0 when it is not UTF-8
};

/// The character at the front of `text`, which is not empty.
Character first_character(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (length == 0 || lead > 0xf4 || text.size() < length) return {};
  char32_t code = lead & (0x7f >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xc0) != 0x80) return {};
    code = code << 6 | (next & 0x3f);
  }
  // Shortest form only, no surrogates, nothing beyond Unicode.
  constexpr std::array<char32_t, 5> kLeast{0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {code, length};
}

/// True for what could move the cursor, or let a name look like another.
bool is_harmful(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) ||  // controls
         c == 0x200e || c == 0x200f ||           // direction marks
         (c >= 0x2028 && c <= 0x202e) ||         // line separators, direction
         (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

std::string escaped(char32_t c) {
  switch (c) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    case '\\': return "\\\\";
    default: break;
  }
  if (c < 0x100) return fmt::format("\\x{:02x}", static_cast<unsigned>(c));
  return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
}

}  // namespace

void print(std::string_view text) {
  require_written(std::fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

void print_json(const Json& document) {
  print(document.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) + "\n");
}

void flush_output() {
  require_written(std::fflush(stdout) == 0);
}

Json error_json(ErrorCode code, std::string_view message) {
  return {{"code", to_string(code)}, {"message", message}};
}

void print_error(std::string_view message) noexcept {
  std::fprintf(stderr, "understudy: error: %s\n", escape(message).c_str());
}

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto [code, length] = first_character(text);
    if (length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
      text.remove_prefix(1);
      continue;
    }
    if (is_harmful(code) || code == '\\') {
      out += escaped(code);
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string human_size(std::uint64_t nbytes) {
  constexpr std::array<std::string_view, 6> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (nbytes < 1024) return fmt::format("{} B", nbytes);
  auto size = static_cast<double>(nbytes) / 1024;
  std::size_t unit = 0;
  // 1023.95 would be written as 1024.0 of the smaller unit.
  while (size >= 1023.95 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", size, kUnits[unit]);
}

std::string counted(std::uint64_t n, std::string_view noun) {
  const bool is_es = noun.ends_with('y');
  if (n == 1) return fmt::format("1 {}", noun);
  if (is_es) return fmt::format("{} {}ies", n, noun.substr(0, noun.size() - 1));
  return fmt::format("{} {}s", n, noun);
}

}  // namespace understudy::cli
