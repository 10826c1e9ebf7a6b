// Mutations of what a parser reads, the same on every run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

namespace understudy::fakes {

/// A stream of numbers that is the same on every run.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  /// Below `n`.
  std::uint64_t roll(std::uint64_t n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % n;
  }

 private:
  std::uint64_t state_;
};

/// Pieces that the parsers give meaning to.
inline constexpr std::string_view kPieces[] = {"\"",
                                               "\\",
                                               "[",
                                               "]",
                                               "{",
                                               "}",
                                               ",",
                                               ":",
                                               "-",
                                               "0",
                                               "9",
                                               "1.5",
                                               "1e9",
                                               ".",
                                               "null",
                                               "true",
                                               " ",
                                               "\n",
                                               "\"d\",",
                                               "\"l\",",
                                               "\"k\",",
                                               "\"B\",",
                                               "\"t\",",
                                               "\"o\",",
                                               "[0]",
                                               "[\"l\",",
                                               "[\"t\"]",
                                               "[\"k\",\"deque\",null,",
                                               "18446744073709551615",
                                               "9223372036854775808",
                                               "-9223372036854775808",
                                               "4294967296",
                                               "\"dtype\"",
                                               "\"shape\"",
                                               "\"data_offsets\"",
                                               "\"F32\"",
                                               "\"__metadata__\"",
                                               "\"float32\"",
                                               "\"version\"",
                                               "\"files\"",
                                               "\"step\"",
                                               "\xff",
                                               "\xed\xa0\x80",
                                               "\\ud800",
                                               "\\u0061"};

/// The text with a few of its bytes left out, repeated, replaced or flipped.
inline std::string mutated(std::string text, Dice& dice) {
  const auto piece = [&] { return kPieces[dice.roll(std::size(kPieces))]; };
  for (auto edits = 1 + dice.roll(5); edits > 0; --edits) {
    const auto at = dice.roll(text.size() + 1);
    const auto n = std::min<std::uint64_t>(dice.roll(16), text.size() - at);
    switch (dice.roll(6)) {
      case 0: text.erase(at, n); break;
      case 1: text.insert(at, text.substr(dice.roll(text.size() + 1), dice.roll(64))); break;
      case 2: text.insert(at, piece()); break;
      case 3: text.replace(at, n, piece()); break;
      case 4:
        if (at < text.size()) text[at] = static_cast<char>(dice.roll(256));
        break;
      default:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << dice.roll(8)));
    }
  }
  return text;
}

}  // namespace understudy::fakes
