#include "ranks/rank_names.h"

#include "base/text.h"

namespace understudy::ranks {

std::string name_ranks(const std::vector<int>& ranks) {
  constexpr std::size_t kMost = 4;
  if (ranks.size() == 1) return format_text("rank {}", ranks[0]);
  std::string out = "ranks ";
  const auto named = ranks.size() <= kMost ? ranks.size() : kMost - 1;
  for (std::size_t i = 0; i < named; ++i) {
    const bool is_last = i + 1 == ranks.size();
    out += format_text("{}{}", i == 0 ? "" : is_last ? " and " : ", ", ranks[i]);
  }
  if (named < ranks.size()) out += format_text(" and {} more", ranks.size() - named);
  return out;
}

}  // namespace understudy::ranks
