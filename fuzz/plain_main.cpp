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
#include "fakes/mutations.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

// A few seconds without a sanitizer.
constexpr int kMutations = 20'000;

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
  understudy::fakes::Dice dice(1);
  for (int i = 0; i < kMutations; ++i) {
    feed(understudy::fakes::mutated(inputs[dice.roll(inputs.size())], dice));
  }
  for (const auto& path : patterns) feed(swollen(read_file(path)));
  std::printf("%zu inputs, %d mutations, %zu long ones; at most %.0f bytes of memory for one\n",
              inputs.size(), kMutations, patterns.size(), understudy::fuzz::most_for_a_byte());
  return 0;
}
