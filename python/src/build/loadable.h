// Objects with state_dict() and load_state_dict() in the target of a resume.
#pragma once

#include <string>

#include "core/common.h"
#include "understudy/value.h"
#include "walk/walk.h"

namespace understudy::python {

/// A leaf that takes its part of the state by itself. `place` is its path.
Opaque loadable_leaf(nb::handle object, std::string place);

/// How the target of a resume is walked: objects become such leaves.
WalkOptions walking_for_target();

}  // namespace understudy::python
