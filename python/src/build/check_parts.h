// Whether modules and optimizers of torch would take their part of a saved state. They load
// strictly, but find out half-way.
#pragma once

#include <string>
#include <vector>

#include "core/common.h"
#include "frameworks/frameworks.h"
#include "understudy/loadable.h"
#include "understudy/value.h"

namespace understudy::python {

/// What decides for itself while it loads (a
/// `load_state_dict` of its own; hooks and overrides in a module) is not judged.
LoadAnswer ask_module(const Torch& torch, nb::handle module, const Value& state,
                      const LoadPolicy& policy);
/// One sentence, or nothing when it fits. With `convert` dtypes are not compared.
std::string check_optimizer(const Torch& torch, nb::handle optimizer, const Value& state,
                            bool convert);

/// What of an optimizer's saved state understudy._dtensors.own asks for: its numbers and shapes.
nb::object shapes_of_optimizer(const Value& state);

inline constexpr const char* kTakesItsPartWhole = "it takes its part whole, and not by names";

/// The tensors of the module's state in host memory, under their names.
Value tensors_of_module(nb::handle module);

/// Of the whole tensor, where the saved one is a chunk.
Dims saved_shape(const Value& saved);

std::string dims_text(const Dims& dims);

/// True when the object has another method of that name than the class `base`.
bool has_own(const nb::object& base, nb::handle object, const char* method);

}  // namespace understudy::python
