// Two states, compared by value.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "inspect/gather.h"
#include "understudy/inspect.h"
#include "understudy/value.h"

namespace understudy::inspect {

/// What differs, in the order of `a`. Equal means: the same types, kinds and
/// keys (their order only in ordered dicts), scalars and elements with the same
/// bits (a NaN equals itself, 0.0 is not -0.0), and tensors that share bytes in
/// one state share them in the other. Strides do not count.
std::vector<Difference> compare(const Value& a, const Value& b, const Gather& gather_a = gather,
                                const Gather& gather_b = gather);

/// Two tensors at one place of the trees.
struct MatchedTensors {
  std::string path;
  const Tensor* a;
  const Tensor* b;
};

/// Adds a difference for each tensor that shares bytes with an earlier one in
/// one state and not, or otherwise, in the other.
void compare_aliasing(const std::vector<MatchedTensors>& tensors,
                      std::vector<Difference>& differences);

/// One sentence, empty when dtype, shape and elements are the same.
std::string compare_tensors(const Tensor& a, const Gather& gather_a, const Tensor& b,
                            const Gather& gather_b);

/// A scalar that is written out, or what a node is: "7", "'adam'",
/// "ordered_dict of 3", "float32 tensor of shape [2, 3]".
std::string brief(const Value& value);

/// "[2, 3]".
std::string dims_text(const Dims& dims);

}  // namespace understudy::inspect
