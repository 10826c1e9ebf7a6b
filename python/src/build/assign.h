// After a resume: restored scalars go into the caller's own containers.
#pragma once

#include <vector>

#include "core/common.h"
#include "understudy/value.h"
#include "walk/walk.h"

namespace understudy::python {

/// `before` is what the walk made of `state`, `after` what the resume made of
/// that. Changes lists and dicts in place; a tuple that changed is replaced in
/// its parent. Tensors and objects stay: their contents have been restored.
void assign_restored(nb::handle state, const Value& before, const Value& after);

/// Copies what could not be restored in place into lazy views and the like,
/// and tells autograd that tensors have changed.
void finish_tensors(const std::vector<WriteBack>& write_backs,
                    const std::vector<PyObject*>& torch_tensors);

}  // namespace understudy::python
