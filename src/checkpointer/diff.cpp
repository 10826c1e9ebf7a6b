#include "checkpointer/compare.h"
#include "checkpointer/resolve.h"
#include "understudy/inspect.h"

namespace understudy {

std::vector<Difference> diff(const std::filesystem::path& a, const std::filesystem::path& b) {
  const auto first = checkpointer::load_mapped(checkpointer::resolve(a));
  const auto second = checkpointer::load_mapped(checkpointer::resolve(b));
  return checkpointer::compare(first, second);
}

}  // namespace understudy
