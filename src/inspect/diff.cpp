#include "inspect/compare.h"
#include "inspect/resolve.h"
#include "understudy/inspect.h"

namespace understudy {

std::vector<Difference> diff(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto first = inspect::load_mapped(inspect::open_target(a).shard);
  const auto second = inspect::load_mapped(inspect::open_target(b).shard);
  return inspect::compare(first, second);
}

}  // namespace understudy
