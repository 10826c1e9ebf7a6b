// Which version of the format a tree needs.
#include "format/tree.h"

namespace understudy::format {
namespace {

// Behind the end of the text that begins there.
std::size_t skip_text(std::string_view tree, std::size_t at) noexcept {
  for (++at; at < tree.size() && tree[at] != '"'; ++at) {
    if (tree[at] == '\\') ++at;
  }
  return at + 1;
}

// Behind the end of the tensor that begins there; counts its items.
std::size_t skip_tensor(std::string_view tree, std::size_t at, int& items) noexcept {
  int depth = 0;
  items = 1;
  while (at < tree.size()) {
    const char c = tree[at];
    if (c == '"') {
      at = skip_text(tree, at);
      continue;
    }
    ++at;
    if (c == '[') ++depth;
    if (c == ',' && depth == 1) ++items;
    if (c == ']' && --depth == 0) break;
  }
  return at;
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

}  // namespace

bool has_new_forms(std::string_view tree) noexcept {
  constexpr int kItemsWithRun = 9;
  std::size_t at = 0;
  while (at < tree.size()) {
    const auto rest = tree.substr(at);
    if (rest[0] == '"') {
      at = skip_text(tree, at);
    } else if (rest.size() > 1 && rest[0] == '[' && is_digit(rest[1])) {
      int items = 0;
      at = skip_tensor(tree, at, items);
      if (items == kItemsWithRun) return true;
    } else if (rest.starts_with("[\"k\",\"typed\",") ||
               rest.starts_with("[\"k\",\"long_integer\",")) {
      return true;
    } else {
      ++at;
    }
  }
  return false;
}

}  // namespace understudy::format
