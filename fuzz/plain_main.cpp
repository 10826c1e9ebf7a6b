// Drives a fuzz target without a fuzzer: every file named on the command line
// or in the folders named there (by default the target's own corpus) as it is,
// then a fixed number of mutations of them, the same on every run, and at last long
// inputs: what an input costs is bounded by its length (bounds.h).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "bounds.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

// A few seconds without a sanitizer.
constexpr int kMutations = 20'000;

// Pieces that the parsers give meaning to.
constexpr std::string_view kPieces[] = {"\"",
                                        "\\",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        ",",
                                        ":",
                                        "-",
                                        "0",
                                        "1.5",
                                        "1e9",
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

// Numbers that are the same on every run.
class Dice {
 public:
  std::uint64_t roll(std::uint64_t n) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % n;
  }

 private:
  std::uint64_t state_ = 0x9E3779B97F4A7C15;
};

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<fs::path> files_in(const std::vector<fs::path>& arguments) {
  std::vector<fs::path> files;
  for (const auto& argument : arguments) {
    if (!fs::is_directory(argument)) {
      files.push_back(argument);
      continue;
    }
    for (const auto& item : fs::directory_iterator(argument)) files.push_back(item.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void edit(std::string& text, Dice& dice) {
  const auto at = dice.roll(text.size() + 1);
  const auto n = std::min<std::uint64_t>(dice.roll(16), text.size() - at);
  switch (dice.roll(5)) {
    case 0: text.erase(at, n); break;
    case 1: text.insert(at, text.substr(dice.roll(text.size() + 1), dice.roll(64))); break;
    case 2: text.insert(at, kPieces[dice.roll(std::size(kPieces))]); break;
    case 3: text.replace(at, n, kPieces[dice.roll(std::size(kPieces))]); break;
    default:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << dice.roll(8)));
  }
}

void feed(const std::string& text) {
  understudy::fuzz::within_bounds(text.size(), [&] {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  });
}

// Long enough that what takes time by the square of it shows.
constexpr std::size_t kSwollenNbytes = std::size_t{4} << 20;

// A file in swollen/ has three lines, of which the second is repeated, with the
// number of the repetition in place of each '%'.
std::string swollen(const std::string& pattern) {
  const auto first = pattern.find('\n'), second = pattern.find('\n', first + 1);
  auto text = pattern.substr(0, first);
  const auto repeated = pattern.substr(first + 1, second - first - 1);
  text.reserve(kSwollenNbytes + pattern.size() + 64);
  for (std::size_t i = 0; text.size() < kSwollenNbytes; ++i) {
    for (const char c : repeated) c == '%' ? text += std::to_string(i) : text += c;
  }
  return text + pattern.substr(second + 1);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<fs::path> arguments(argv + 1, argv + argc), patterns;
  if (arguments.empty()) {
    arguments.emplace_back(UNDERSTUDY_CORPUS);
    if (fs::exists(UNDERSTUDY_SWOLLEN)) patterns = files_in({UNDERSTUDY_SWOLLEN});
  }
  std::vector<std::string> inputs;
  for (const auto& path : files_in(arguments)) inputs.push_back(read_file(path));
  if (inputs.empty()) {
    std::fprintf(stderr, "there is nothing to begin with in %s\n", arguments.front().c_str());
    return 2;
  }
  for (const auto& input : inputs) feed(input);
  Dice dice;
  for (int i = 0; i < kMutations; ++i) {
    auto text = inputs[dice.roll(inputs.size())];
    for (auto edits = 1 + dice.roll(5); edits > 0; --edits) edit(text, dice);
    feed(text);
  }
  for (const auto& path : patterns) feed(swollen(read_file(path)));
  std::printf("%zu inputs, %d mutations, %zu long ones; at most %.0f bytes of memory for one\n",
              inputs.size(), kMutations, patterns.size(), understudy::fuzz::most_for_a_byte());
  return 0;
}
