// Objects with state_dict() and load_state_dict() in the target of a resume.
#pragma once

#include <string>

#include "core/common.h"
#include "understudy/value.h"
#include "walk/walk.h"

namespace understudy::python {

/// A leaf that takes its part of the state by itself. `place` is its path. When it has, the memory
/// of the tensors beside it must be what it was.
Opaque loadable_leaf(nb::handle object, std::string place,
                     std::shared_ptr<const TargetMemory> beside);

/// A leaf for a typed value that takes another's value in place (a generator, a sparse tensor).
/// `own` is what it is now.
Opaque in_place_leaf(nb::handle object, std::string place, const Value& own);

/// How the target of a resume is walked: objects become such leaves.
WalkOptions walking_for_target();

}  // namespace understudy::python
