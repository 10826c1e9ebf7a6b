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
  std::fprintf(stderr, "understudy: error: %s\n", printable(message).c_str());
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
