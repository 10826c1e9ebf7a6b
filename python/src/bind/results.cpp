#include "bind/results.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace understudy::python {

void bind_results(nb::module_& m) {
  nb::class_<PyCheckpoint>(m, "Checkpoint", "A step that has been read.")
      .def_ro("step", &PyCheckpoint::step, "Its number.")
      .def_ro("state", &PyCheckpoint::state, "The state, over new memory.")
      .def_ro("metadata", &PyCheckpoint::metadata, "What save() was given, or None.")
      .def_ro("source", &PyCheckpoint::source, "'disk' or 'memory'.")
      .def_ro("reader", &PyCheckpoint::reader, "How its bytes were read, and why so.")
      .def("__repr__", [](const PyCheckpoint& c) {
        return fmt::format("Checkpoint(step={}, source='{}')", c.step, c.source);
      });
  nb::class_<Resumed>(m, "Resumed", "What the last resume did.")
      .def_ro("step", &Resumed::step, "What was resumed.")
      .def_ro("source", &Resumed::source, "'disk' or 'memory'.")
      .def_ro("reader", &Resumed::reader, "How its bytes were read, and why so.")
      .def_prop_ro(
          "skipped",
          [](const Resumed& r) {
            nb::list skipped;
            for (const auto& [step, reason] : r.skipped) {
              skipped.append(nb::make_tuple(step, str_of(reason)));
            }
            return skipped;
          },
          "Newer steps that were damaged, and what in memory could not be used, each with the "
          "reason.")
      .def_ro("discarded", &Resumed::discarded, "Newer steps that discard_newer removed.")
      .def_ro("missing", &Resumed::missing,
              "With strict=False: paths of the state that the step lacks. They were left as they "
              "were.")
      .def_ro("unexpected", &Resumed::unexpected,
              "With strict=False: paths of the step that the state lacks.")
      .def_ro("mismatched", &Resumed::mismatched,
              "With strict=False: paths of both that do not fit. They were left as they were.")
      .def("__repr__", [](const Resumed& r) {
        return fmt::format("Resumed(step={}, source='{}', skipped={} steps)", r.step, r.source,
                           r.skipped.size());
      });
}

}  // namespace understudy::python
