// Errors across the border, both ways.
#pragma once

#include <exception>

#include "core/common.h"

namespace understudy::python {

/// The class understudy.Error.
nb::handle error_type();

/// What Python would have raised for `failure`.
nb::object exception_of(const std::exception_ptr& failure);

/// Adds a line to an exception that passes through, where Python has notes
/// (3.11 and later).
void add_note(nb::python_error& error, const std::string& note);

void bind_errors(nb::module_& m);

}  // namespace understudy::python
