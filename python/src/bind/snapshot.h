// Snapshot as Python has it.
#pragma once

#include "core/common.h"
#include "understudy/stager.h"

namespace understudy::python {

struct PySnapshot {
  explicit PySnapshot(Snapshot s) : snapshot(std::move(s)) {}
  Snapshot snapshot;
};

}  // namespace understudy::python
