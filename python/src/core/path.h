// The way from the root of a state to a Python object.
#pragma once

#include "core/common.h"

namespace understudy::python {

/// A linked list on the stack. A step with neither key nor index leads from an
/// object to its state_dict() and is not written.
struct Path {
  const Path* parent = nullptr;
  PyObject* key = nullptr;        ///< of a dict
  Py_ssize_t index = -1;          ///< in a list or tuple
  PyObject* container = nullptr;  ///< the object whose children hang here
  int depth = 0;

  /// Keys joined by '.': "model.layers.0.weight".
  std::string str() const;
  /// "at 'model.layers.0'", or "at the top".
  std::string place() const;
};

}  // namespace understudy::python
