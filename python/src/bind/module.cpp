#include <nanobind/stl/string.h>

#include "bind/bindings.h"
#include "core/errors.h"
#include "frameworks/frameworks.h"
#include "understudy/version.h"

NB_MODULE(_core, m) {
  using namespace understudy::python;
  // Handles that live until the end are no leak, and the library never prints.
  nb::set_leak_warnings(false);
  m.attr("__version__") = nb::str(understudy::kVersion.data(), understudy::kVersion.size());
  bind_errors(m);
  bind_ticket(m);
  bind_files(m);
  bind_stager(m);
  bind_keep(m);
  bind_checkpointer(m);
  bind_tensor_stager(m);
  m.def("_use_exchange_api", &use_exchange_api, nb::arg("use"));
  m.def("_use_peek", &use_peek, nb::arg("use"));
  m.def("_how_tensors_are_known", &how_tensors_are_known);
}
