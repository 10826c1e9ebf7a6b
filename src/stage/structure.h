// What a plan depends on: everything in a state but its scalars, bytes and addresses.
#pragma once

#include <string>
#include <vector>

#include "format/tree.h"
#include "understudy/value.h"

namespace understudy::stage {

/// One pass over a state.
struct Structure {
  /// Keys, types, shapes, strides and blob sizes, flattened. Two states with equal
  /// signatures, whose tensors share bytes in the same way, can use the same plan.
  std::string signature;
  std::vector<const Tensor*> tensors;  ///< in walk order
  std::vector<std::string> blobs;      ///< bytes, in walk order
  std::vector<Value> opaques;          ///< without a pickle, in walk order
};

Structure examine(const Value& state);

}  // namespace understudy::stage
