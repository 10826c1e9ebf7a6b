// How much larger than its bytes a state may be when its views are written out.
#pragma once

#include <cstdint>
#include <string>

#include "understudy/value.h"

namespace understudy::inspect {

/// Whoever goes through the elements of views (to compare or export them) asks
/// first: a view with strides of zero, or many over the same bytes, makes as many
/// elements as it likes out of one byte.
class SpreadLimit {
 public:
  /// For the tensors of `state`: 16 times their bytes may be gone through, and 1 GiB
  /// at least.
  explicit SpreadLimit(const Value& state);

  /// Takes `nbytes` of it for the tensor at `path`. Throws Error(unsupported).
  void take(std::uint64_t nbytes, const std::string& path);

 private:
  std::uint64_t most_;
  std::uint64_t taken_ = 0;
};

}  // namespace understudy::inspect
