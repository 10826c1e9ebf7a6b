// Saved tensors cut for a target of which this rank has chunks.
#pragma once

#include "understudy/value.h"

namespace understudy::restore {

/// `saved` with the part, as a view, of each tensor for which `target` has a chunk of a tensor of
/// that shape at the same place. What is another way round stays, for the comparison to tell.
Value cut_for(const Value& target, const Value& saved);

}  // namespace understudy::restore
