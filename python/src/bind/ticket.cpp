#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>

#include <variant>

#include "bind/bindings.h"
#include "bind/docs.h"
#include "bind/options.h"
#include "bind/snapshot.h"
#include "core/errors.h"
#include "core/refs.h"
#include "core/waiting.h"

namespace understudy::python {
namespace {

using SnapshotTicket = Ticket<Snapshot>;
using PathTicket = Ticket<std::filesystem::path>;
using BytesTicket = Ticket<std::uint64_t>;

nb::object to_python(Snapshot snapshot) {
  return nb::cast(PySnapshot(std::move(snapshot)));
}
nb::object to_python(const std::filesystem::path& path) {
  return nb::cast(path);
}
nb::object to_python(std::uint64_t nbytes) {
  return nb::cast(nbytes);
}

// A ticket of any result.
class PyTicket {
 public:
  explicit PyTicket(SnapshotTicket ticket) : ticket_(std::move(ticket)) {}
  explicit PyTicket(PathTicket ticket) : ticket_(std::move(ticket)) {}
  explicit PyTicket(BytesTicket ticket) : ticket_(std::move(ticket)) {}

  const TicketBase& base() const {
    return std::visit([](const auto& t) -> const TicketBase& { return t; }, ticket_);
  }

  nb::object wait(std::optional<double> seconds) const {
    Entry entry;
    const bool is_done = wait_in_slices(timeout_of(seconds),
                                        [&](auto slice) { return base().wait_done_for(slice); });
    // Does not block any more: gives the result, or throws the failure or that
    // the time ran out.
    const Timeout none = std::chrono::duration<double>(0);
    (void)is_done;
    return std::visit([&](const auto& t) { return to_python(t.wait(none)); }, ticket_);
  }

  void wait_captured(std::optional<double> seconds) const {
    Entry entry;
    wait_in_slices(timeout_of(seconds),
                   [&](auto slice) { return base().wait_captured_for(slice); });
    std::visit([](const auto& t) { t.wait_captured(std::chrono::duration<double>(0)); }, ticket_);
  }

 private:
  std::variant<SnapshotTicket, PathTicket, BytesTicket> ticket_;
};

// What the work is at.
nb::object repr(const PyTicket& ticket) {
  const auto& base = ticket.base();
  if (const auto failure = base.exception()) {
    return nb::str("Ticket(failed: {})").attr("format")(exception_of(failure));
  }
  if (base.is_done()) return nb::str("Ticket(done)");
  const auto [done, total] = base.progress();
  const char* what = base.is_captured() ? "captured" : "under way";
  return nb::str(fmt::format("Ticket({}, {} of {} bytes)", what, done, total).c_str());
}

nb::dict metrics(const PyTicket& ticket) {
  const auto m = ticket.base().metrics();
  nb::dict d;
  d["blocked_s"] = m.blocked_s;
  d["waited_s"] = m.waited_s;
  d["captured_s"] = m.captured_s;
  d["durable_s"] = m.durable_s;
  d["nbytes"] = m.nbytes;
  d["memory"] = m.memory;
  d["survival"] = m.survival;
  d["sealed_s"] = m.sealed_s;
  d["plan"] = m.plan;
  d["at_once_nbytes"] = m.at_once_nbytes;
  d["faults"] = m.faults;
  d["faults_nbytes"] = m.faults_nbytes;
  d["writer"] = m.writer;
  d["newer_step"] = m.newer_step;
  d["unremoved"] = m.unremoved;
  return d;
}

nb::object exception(const PyTicket& ticket) {
  const auto failure = ticket.base().exception();
  return failure ? exception_of(failure) : nb::none();
}

}  // namespace

nb::object make_ticket(Ticket<Snapshot> ticket) {
  return nb::cast(PyTicket(std::move(ticket)));
}
nb::object make_ticket(Ticket<std::filesystem::path> ticket) {
  return nb::cast(PyTicket(std::move(ticket)));
}

nb::object make_ticket(Ticket<std::uint64_t> ticket) {
  return nb::cast(PyTicket(std::move(ticket)));
}

void bind_ticket(nb::module_& m) {
  auto ticket =
      nb::class_<PyTicket>(m, "Ticket", docs::kTicket)
          .def("wait", &PyTicket::wait, nb::arg("timeout") = nb::none(), docs::kTicketWait)
          .def(
              "done", [](const PyTicket& t) { return t.base().is_done(); },
              "True when the work has ended, well or not.")
          .def("wait_captured", &PyTicket::wait_captured, nb::arg("timeout") = nb::none(),
               docs::kWaitCaptured)
          .def(
              "is_captured", [](const PyTicket& t) { return t.base().is_captured(); },
              "True when the snapshot is complete, or the work has failed.")
          .def(
              "progress", [](const PyTicket& t) { return t.base().progress(); },
              "Bytes done and bytes in all.")
          .def("__repr__", &repr)
          .def("exception", &exception, "The failure, or None while there is none. Does not block.")
          .def_prop_ro(
              "capture", [](const PyTicket& t) { return t.base().capture(); },
              "Which capture was used and, if it is not the best, why.")
          .def("metrics", &metrics, docs::kMetrics);
  // Ticket[Snapshot] in annotations.
  ticket.attr("__class_getitem__") =
      nb::module_::import_("builtins")
          .attr("classmethod")(nb::module_::import_("types").attr("GenericAlias"));
}

}  // namespace understudy::python
