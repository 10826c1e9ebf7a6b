#include "format/text.h"

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "format/safetensors.h"

namespace understudy::format {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kHighs = 0x8080808080808080;

// The high bit of every byte that JSON cannot carry as it is: controls,
// the quote, the backslash, and all beyond ASCII (which is checked first).
// Exact up to and including the first such byte.
std::uint64_t special_bytes(std::uint64_t word) noexcept {
  const auto equal = [word](std::uint64_t c) {
    const std::uint64_t x = word ^ (kOnes * c);
    return (x - kOnes) & ~x;
  };
  const std::uint64_t controls = (word - kOnes * 0x20) & ~word;
  return (controls | equal('"') | equal('\\') | word) & kHighs;
}

// Length of the run at `begin` that is plain ASCII without escapes.
std::size_t plain_run(std::string_view text, std::size_t begin) noexcept {
  std::size_t i = begin;
  for (; i + 8 <= text.size(); i += 8) {
    std::uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (const auto found = special_bytes(word)) {
      return i + static_cast<std::size_t>(__builtin_ctzll(found)) / 8 - begin;
    }
  }
  for (; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == '"' || c == '\\' || c >= 0x80) break;
  }
  return i - begin;
}

// How JSON writes an ASCII character that plain_run stops at.
std::string_view escape_of(unsigned char c, char (&room)[6]) noexcept {
  switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    case '\b': return "\\b";
    case '\f': return "\\f";
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  std::memcpy(room, "\\u00", 4);
  room[4] = kHexDigits[c >> 4];
  room[5] = kHexDigits[c & 15];
  return {room, 6};
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  std::size_t i = 0;
  while (i < text.size()) {
    std::uint64_t word;
    if (i + 8 <= text.size()) {
      std::memcpy(&word, text.data() + i, 8);
      if ((word & kHighs) == 0) {
        i += 8;
        continue;
      }
    }
    const auto n = utf8_sequence(text.substr(i));
    if (n == 0) return false;
    i += n;
  }
  return true;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t i = 0;
  while (true) {
    const auto run = plain_run(text, i);
    out.append(text, i, run);
    i += run;
    if (i == text.size()) break;
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      char room[6];
      out += escape_of(c, room);
      ++i;
      continue;
    }
    const auto n = utf8_sequence(text.substr(i));
    if (n == 0) {
      fail(ErrorCode::invalid, "the text {} is not UTF-8 (at its byte {}) and cannot be written",
           in_quotes(text), i);
    }
    out.append(text, i, n);
    i += n;
  }
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::uint64_t json_string_nbytes(std::string_view text) noexcept {
  std::uint64_t nbytes = 2 + text.size();
  for (std::size_t i = 0; i < text.size(); ++i) {
    i += plain_run(text, i);
    if (i == text.size()) break;
    const auto c = static_cast<unsigned char>(text[i]);
    char room[6];
    if (c < 0x80) nbytes += escape_of(c, room).size() - 1;
  }
  return nbytes;
}

void append_number(std::string& out, std::uint64_t value) {
  char digits[20];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_number(std::string& out, std::int64_t value) {
  char digits[20];
  out.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
}

void append_hex(std::string& out, std::string_view bytes) {
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
}

bool parse_hex(std::string_view digits, std::string& bytes) {
  if (digits.size() % 2 != 0) return false;
  bytes.clear();
  bytes.reserve(digits.size() / 2);
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    const int high = hex_digit_value(digits[i]);
    const int low = hex_digit_value(digits[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes += static_cast<char>(high << 4 | low);
  }
  return true;
}

}  // namespace understudy::format
