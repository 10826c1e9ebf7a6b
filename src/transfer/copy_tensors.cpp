#include "transfer/copy_tensors.h"

#include <map>

#include "transfer/convert.h"
#include "transfer/copy_bytes.h"
#include "value/extents.h"
#include "value/strided_copy.h"

namespace understudy::transfer {
namespace {

bool is_run(const TensorCopy& c) {
  return c.from.dtype() == c.to.dtype() && c.from.is_contiguous() && c.to.is_contiguous();
}

void copy_whole(const TensorCopy& c) {
  if (c.from.numel() == 0) return;
  if (c.from.dtype() != c.to.dtype()) {
    convert_tensor(c.from, c.to);
  } else if (is_run(c)) {
    copy_bytes(c.to.data(), c.from.data(), c.to.nbytes());
  } else {
    value::copy_strided(c.from, c.to);
  }
}

}  // namespace

CopyGroups group_copies(const std::vector<TensorCopy>& copies) {
  std::vector<const Tensor*> targets;
  for (const auto& c : copies) targets.push_back(&c.to);
  const auto placements = value::find_extents(targets).placements;
  std::map<std::uint32_t, std::vector<const TensorCopy*>> by_extent;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    by_extent[placements[i].extent].push_back(&copies[i]);
  }
  CopyGroups groups;
  for (auto& [extent, members] : by_extent) {
    if (members.size() == 1 && is_run(*members[0])) {
      groups.runs.push_back(members[0]);
    } else {
      groups.others.push_back(std::move(members));
    }
  }
  return groups;
}

void copy_tensors(const std::vector<TensorCopy>& copies, WorkerPool& workers) {
  const auto groups = group_copies(copies);
  std::vector<ByteCopy> runs;
  for (const auto* c : groups.runs) {
    runs.push_back({c->from.data(), c->to.data(), c->to.nbytes()});
  }
  copy_runs(runs, workers);
  workers.run(groups.others.size(), [&](std::uint64_t i, int) {
    for (const auto* c : groups.others[i]) copy_whole(*c);
  });
}

}  // namespace understudy::transfer
