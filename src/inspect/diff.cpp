#include "inspect/compare.h"
#include "inspect/resolve.h"
#include "inspect/stored_state.h"
#include "understudy/inspect.h"

namespace understudy {

std::vector<Difference> diff(const std::filesystem::path& a, const std::filesystem::path& b) {
  const inspect::StoredState first(inspect::open_target(a));
  const inspect::StoredState second(inspect::open_target(b));
  return inspect::compare(first.tree(), second.tree(), first.gatherer(), second.gatherer());
}

}  // namespace understudy
