// Probes of memory, as those of os/probe.h.
#pragma once

#include "os/probe.h"

namespace understudy::vm {

/// Transparent huge pages for private memory.
os::Found probe_huge_pages();

/// Write protection by userfaultfd that also serves faults from inside the
/// kernel, and all else that overlapped capture needs.
os::Found probe_userfaultfd();

/// Shared anonymous memory (memfd); the detail has the shared mount's size.
os::Found probe_shared_memory();

}  // namespace understudy::vm
