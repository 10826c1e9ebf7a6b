#include "inspect/spread.h"

#include <algorithm>
#include <unordered_set>

#include "base/checked.h"
#include "base/error.h"
#include "value/walk.h"

namespace understudy::inspect {
namespace {

// Masks and positions that are expanded are small; a state made of views over a
// few weights has not more of them than this.
constexpr std::uint64_t kLeast = std::uint64_t{1} << 30;
constexpr std::uint64_t kFactor = 16;

std::uint64_t storages_nbytes(const Value& state) {
  std::unordered_set<const Storage*> seen;
  std::uint64_t nbytes = 0;
  for (const auto* tensor : value::tensors_of(state)) {
    if (seen.insert(tensor->storage().get()).second) nbytes += tensor->storage()->nbytes();
  }
  return nbytes;
}

}  // namespace

SpreadLimit::SpreadLimit(const Value& state)
    : most_(std::max(kLeast,
                     checked_mul(kFactor, storages_nbytes(state)).value_or(~std::uint64_t{0}))) {}

void SpreadLimit::take(std::uint64_t nbytes, const std::string& path) {
  const auto sum = checked_add(taken_, nbytes);
  if (!sum || *sum > most_) {
    fail(ErrorCode::unsupported,
         "the tensors up to '{}' have more than {} bytes when their views are written out, far "
         "more than are stored",
         path, most_);
  }
  taken_ = *sum;
}

}  // namespace understudy::inspect
