// Objects with state_dict() and load_state_dict() in the target of a resume.
#pragma once

#include "common.h"
#include "understudy/value.h"

namespace understudy::python {

/// True for an object (no class) that has both methods.
bool has_state(nb::handle object);

/// A leaf that takes its part of the state by itself. `place` is its path.
Opaque loadable_leaf(nb::handle object, std::string place);

}  // namespace understudy::python
