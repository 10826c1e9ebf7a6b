#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <set>

#include "bind/bindings.h"
#include "bind/docs.h"
#include "bind/options.h"
#include "bind/snapshot.h"
#include "build/build.h"
#include "core/gil.h"
#include "core/refs.h"
#include "core/waiting.h"
#include "understudy/process.h"
#include "walk/take_state.h"
#include "walk/walk.h"

namespace understudy::python {
namespace {

class PyStager {
 public:
  explicit PyStager(StagerOptions options) : images_(options.images), stager_(options) {
    all().insert(this);
  }
  ~PyStager() {
    all().erase(this);
    WithoutGil no_gil;  // the end may wait for threads
    auto gone = std::move(stager_);
  }

  nb::object stage(nb::handle state) {
    Entry entry;
    home_.require("a stager");
    auto ticket = take_state(
        last_walk_, {.purpose = Purpose::memory}, state,
        [&](const Again& again) { return stager_.stage_again(again); },
        [&](const Value& value, std::uint64_t number) { return stager_.stage(value, number); });
    last_ = ticket;
    return make_ticket(std::move(ticket));
  }

  nb::object prewarm(nb::handle state) {
    Entry entry;
    home_.require("a stager");
    return make_ticket(prewarm_for({.purpose = Purpose::memory}, state,
                                   [&](const Value& value) { return stager_.prewarm(value); }));
  }

  // At the interpreter's exit: captures under way are finished while what they
  // copy is still there.
  static void finish_all() {
    std::vector<TicketBase> tickets;  // others may end while we wait without the GIL
    for (const auto* one : all()) {
      if (one->home_.is_here() && one->last_) tickets.push_back(*one->last_);
    }
    for (const auto& ticket : tickets) {
      wait_in_slices({}, [&](auto slice) { return ticket.wait_done_for(slice); });
    }
  }

  std::string repr() const {
    return fmt::format("Stager(images={}{})", images_, is_closed_ ? ", closed" : "");
  }

  void close() {
    Entry entry;
    is_closed_ = true;
    last_walk_.reset();
    WithoutGil no_gil;
    stager_.close();
  }

 private:
  // Those that exist. Touched under the GIL only.
  static std::set<PyStager*>& all() {
    static auto* made = new std::set<PyStager*>;
    return *made;
  }

  const HomeProcess home_;
  const int images_;
  bool is_closed_ = false;
  Stager stager_;
  std::unique_ptr<LastWalk> last_walk_;
  std::optional<TicketBase> last_;
};

nb::object state_of(const PySnapshot& self) {
  Entry entry;
  const Value value = [&] {
    WithoutGil no_gil;
    return self.snapshot.state();
  }();
  return Builder({.of_classes = OfClasses::met}).build(value);
}

void save_snapshot(const PySnapshot& self, nb::handle path, nb::handle metadata) {
  Entry entry;
  const auto file = path_of(path);
  const auto checked = file_metadata_of(metadata);
  WithoutGil no_gil;
  self.snapshot.save_file(file, checked);
}

std::string snapshot_repr(const PySnapshot& self) {
  try {
    return fmt::format("Snapshot({} bytes)", self.snapshot.nbytes());
  } catch (const Error&) {
    return "Snapshot(closed)";
  }
}

void close_snapshot(PySnapshot& self) {
  Entry entry;
  WithoutGil no_gil;
  self.snapshot.close();
}

}  // namespace

void bind_stager(nb::module_& m) {
  nb::class_<PySnapshot>(m, "Snapshot", nb::is_weak_referenceable(), docs::kSnapshot)
      .def("state", &state_of, "The captured state, over the image, without a copy.")
      .def_prop_ro(
          "nbytes", [](const PySnapshot& s) { return s.snapshot.nbytes(); },
          "Bytes of the snapshot as a file.")
      .def("save_file", &save_snapshot, nb::arg("path"), nb::kw_only(),
           nb::arg("metadata") = nb::none(), docs::kSnapshotSaveFile)
      .def("close", &close_snapshot, "End the lease. Later calls raise Error (closed).")
      .def("__repr__", &snapshot_repr)
      .def("__enter__", [](nb::object self) { return self; })
      .def("__exit__", [](PySnapshot& self, nb::args) { close_snapshot(self); });

  nb::class_<PyStager>(m, "Stager", nb::is_weak_referenceable(), docs::kStager)
      .def(
          "__init__",
          [](PyStager* self, int images, const std::string& memory, const std::string& capture,
             const std::string& when_busy, bool huge_pages, std::optional<int> threads) {
            Entry entry;
            new (self) PyStager({.images = images,
                                 .memory = memory_of(memory),
                                 .capture = capture_of(capture),
                                 .when_busy = when_busy_of(when_busy),
                                 .huge_pages = huge_pages,
                                 .threads = threads.value_or(0)});
          },
          nb::kw_only(), nb::arg("images") = 2, nb::arg("memory") = "auto",
          nb::arg("capture") = "auto", nb::arg("when_busy") = "wait", nb::arg("huge_pages") = false,
          nb::arg("threads") = nb::none())
      .def("stage", &PyStager::stage, nb::arg("state").none(), docs::kStage)
      .def("prewarm", &PyStager::prewarm, nb::arg("state").none(), docs::kStagerPrewarm)
      .def("close", &PyStager::close, "Give the images back (leased ones when their leases end).")
      .def("__repr__", &PyStager::repr)
      .def("__enter__", [](nb::object self) { return self; })
      .def("__exit__", [](PyStager& self, nb::args) { self.close(); });
  // The interpreter calls them before it takes modules and threads apart, the last one first.
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&stop_asking));
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&PyStager::finish_all));
}

}  // namespace understudy::python
