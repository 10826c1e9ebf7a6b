#include "store/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <random>

#include "base/error.h"
#include "store/manifest.h"

namespace understudy::store {

namespace {

constexpr std::size_t kMarkDigits = 8;
constexpr std::string_view kStepPrefix = "step-";

bool is_hex_digit(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

}  // namespace

std::string marked_name(std::string_view base, std::string_view mark) {
  return fmt::format("{}{}{:08x}", base, mark, std::random_device{}());
}

bool is_marked_name(std::string_view name, std::string_view base, std::string_view mark) {
  if (name.size() != base.size() + mark.size() + kMarkDigits) return false;
  return name.starts_with(base) && name.substr(base.size()).starts_with(mark) &&
         std::ranges::all_of(name.substr(base.size() + mark.size()), is_hex_digit);
}

std::optional<std::int64_t> step_of_marked_name(std::string_view name, std::string_view mark) {
  const std::string_view base = name.substr(0, name.find(mark));
  std::int64_t step = 0;
  if (!parse_step_name(base, step) || !is_marked_name(name, base, mark)) return {};
  return step;
}

std::string step_name(std::int64_t step) {
  return fmt::format("{}{}", kStepPrefix, step);
}

bool parse_step_name(std::string_view name, std::int64_t& step) {
  if (!name.starts_with(kStepPrefix)) return false;
  const std::string_view digits = name.substr(kStepPrefix.size());
  // One name a step: no sign, no leading zeros.
  if (digits.empty() || digits[0] < '0' || digits[0] > '9') return false;
  if (digits.size() > 1 && digits[0] == '0') return false;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  return error == std::errc{} && end == digits.data() + digits.size();
}

}  // namespace understudy::store
