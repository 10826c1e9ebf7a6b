// Whether the memory under a NumPy array is still there.
#pragma once

#include "core/common.h"

namespace understudy::python {

/// False for a view of an array that was resized since (`resize` with `refcheck=False`) and does
/// not hold it any more. `view` is the array's buffer.
bool is_within_its_owner(PyObject* array, const Py_buffer& view);

}  // namespace understudy::python
