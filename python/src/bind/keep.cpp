// The rule of retention.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bind/bindings.h"
#include "bind/docs.h"
#include "bind/options.h"
#include "core/refs.h"

namespace understudy::python {
namespace {

/// An int that is no bool, of 31 bits.
std::optional<int> int_of(nb::handle value) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) return {};
  const auto index = steal_or_throw(PyNumber_Index(value.ptr()));
  int number = 0;
  if (!nb::try_cast(index, number)) return {};
  return number;
}

int count_of(const char* what, nb::handle value) {
  const int count = int_of(value).value_or(0);
  if (count < 1) {
    fail(ErrorCode::invalid, "{} is {}, and must be an int of at least 1", what,
         text_of(nb::repr(value)));
  }
  return count;
}

Keep::Best best_of(nb::handle best) {
  const bool is_triple = (PyTuple_Check(best.ptr()) || PyList_Check(best.ptr())) &&
                         nb::len(best) == 3 && PyUnicode_Check(nb::object(best[0]).ptr());
  const std::string order =
      is_triple && PyUnicode_Check(nb::object(best[1]).ptr()) ? text_of(nb::object(best[1])) : "";
  if (order != "min" && order != "max") {
    fail(ErrorCode::invalid,
         "best is {}, and must be the name of a number in the metadata, 'min' or 'max', and how "
         "many: (\"loss\", \"min\", 2)",
         text_of(nb::repr(best)));
  }
  return {text_of(nb::object(best[0])), order == "min" ? Keep::Order::min : Keep::Order::max,
          count_of("the number of best steps", nb::object(best[2]))};
}

nb::object best_tuple(const Keep& keep) {
  if (!keep.best) return nb::none();
  return nb::make_tuple(keep.best->key, keep.best->order == Keep::Order::min ? "min" : "max",
                        keep.best->count);
}

nb::object every_or_none(const Keep& keep) {
  return keep.every == 0 ? nb::none() : nb::cast(keep.every);
}

}  // namespace

std::optional<Keep> keep_of(nb::handle keep) {
  if (keep.is_none()) return {};
  if (nb::isinstance<Keep>(keep)) return nb::cast<Keep>(keep);
  const auto last = int_of(keep);
  if (!last) {
    fail(ErrorCode::invalid, "keep is {} of type {}, and must be an int, a Keep or None",
         text_of(nb::repr(keep)), name_of_type(keep.type()));
  }
  return Keep(*last);  // checked with the other options
}

void bind_keep(nb::module_& m) {
  nb::class_<Keep>(m, "Keep", docs::kKeep)
      .def(
          "__init__",
          [](Keep* self, nb::handle last, nb::handle every, nb::handle best) {
            Entry entry;
            Keep keep(count_of("last", last));
            if (!every.is_none()) keep.every = count_of("every", every);
            if (!best.is_none()) keep.best = best_of(best);
            new (self) Keep(std::move(keep));
          },
          nb::kw_only(), nb::arg("last") = 1, nb::arg("every") = nb::none(),
          nb::arg("best") = nb::none())
      .def_ro("last", &Keep::last, "How many of the newest steps stay.")
      .def_prop_ro("every", &every_or_none,
                   "Steps whose numbers are multiples of it stay; or None.",
                   nb::sig("def every(self) -> int | None"))
      .def_prop_ro("best", &best_tuple, "(name, 'min' or 'max', n), or None.",
                   nb::sig("def best(self) -> tuple[str, str, int] | None"))
      .def("__repr__", [](const Keep& keep) {
        return fmt::format("Keep(last={}, every={}, best={})", keep.last,
                           text_of(nb::repr(every_or_none(keep))),
                           text_of(nb::repr(best_tuple(keep))));
      });
}

}  // namespace understudy::python
