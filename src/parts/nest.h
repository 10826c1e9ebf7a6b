// Leaves by their names become a nested state.
#pragma once

#include <map>
#include <string>

#include "understudy/parts.h"

namespace understudy::parts {

/// The nested state of `leaves`, a dict of names. Indices make lists, in which none stands for what
/// is missing. Throws Error(invalid) when two paths cannot both be.
Value nest(const Value& leaves, const LeafPaths& paths);

}  // namespace understudy::parts
