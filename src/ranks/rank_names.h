// Ranks in messages.
#pragma once

#include <string>
#include <vector>

namespace understudy::ranks {

/// "rank 0", "ranks 0 and 3", "ranks 0, 1, 2 and 5 more"
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace understudy::ranks
