// Elements as numbers, for messages.
#pragma once

#include <cstddef>
#include <optional>

#include "understudy/dtype.h"

namespace understudy::inspect {

/// The largest distance between two elements (of the parts of complex ones), or
/// nothing when the type is not floating or a NaN is involved.
std::optional<double> distance(DType dtype, const std::byte* a, const std::byte* b);

}  // namespace understudy::inspect
