#include <nanobind/stl/string.h>

#include "bind/bindings.h"
#include "core/errors.h"
#include "frameworks/frameworks.h"
#include "understudy/version.h"

// Before nanobind begins to set up what all interpreters of the process would share, the
// door has to be closed to all but the main one: so Python calls a function of our own.
#define PyInit__core init_in_main_interpreter

NB_MODULE(_core, m) {
  using namespace understudy::python;
  // Handles that live until the end are no leak, and the library never prints.
  nb::set_leak_warnings(false);
  m.attr("__version__") = nb::str(understudy::kVersion.data(), understudy::kVersion.size());
  bind_process();  // first, so that its part of the exit comes last
  bind_errors(m);
  bind_ticket(m);
  bind_files(m);
  bind_stager(m);
  bind_keep(m);
  bind_checkpointer(m);
  bind_tensor_stager(m);
  bind_parts(m);
  m.def("_use_exchange_api", &use_exchange_api, nb::arg("use"));
  m.def("_use_peek", &use_peek, nb::arg("use"));
  m.def("_how_tensors_are_known", &how_tensors_are_known);
}

#undef PyInit__core

extern "C" NB_EXPORT PyObject* PyInit__core() {
  constexpr std::int64_t kMain = 0;
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != kMain) {
    PyErr_SetString(PyExc_ImportError,
                    "understudy works in the main interpreter only, and this is another one of "
                    "the same process; use a process of its own instead");
    return nullptr;
  }
  return init_in_main_interpreter();
}
