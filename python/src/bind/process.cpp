// What is done when the interpreter ends, and when it forks.
#include "bind/bindings.h"
#include "core/parked.h"

namespace understudy::python {

void bind_process() {
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&wait_for_others_inside));
  nb::module_::import_("os").attr("register_at_fork")(nb::arg("after_in_child") =
                                                          nb::cpp_function(&forget_others_inside));
}

}  // namespace understudy::python
