// One function a topic; module.cpp calls them.
#pragma once

#include "core/common.h"
#include "understudy/stager.h"
#include "understudy/ticket.h"

namespace understudy::python {

void bind_process();
void bind_ticket(nb::module_& m);
void bind_files(nb::module_& m);
void bind_stager(nb::module_& m);
void bind_keep(nb::module_& m);
void bind_checkpointer(nb::module_& m);
void bind_tensor_stager(nb::module_& m);
void bind_parts(nb::module_& m);

/// Tickets for Python.
nb::object make_ticket(Ticket<Snapshot> ticket);
nb::object make_ticket(Ticket<std::filesystem::path> ticket);
nb::object make_ticket(Ticket<std::uint64_t> ticket);

}  // namespace understudy::python
