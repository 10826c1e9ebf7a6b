// What reading steps gives to Python.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/common.h"

namespace understudy::python {

/// What the last resume did.
struct Resumed {
  std::int64_t step;
  std::string source;
  std::string reader;
  std::vector<std::pair<std::int64_t, std::string>> skipped;
  std::vector<std::int64_t> discarded;
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> mismatched;
};

/// A step that has been read.
struct PyCheckpoint {
  std::int64_t step;
  nb::object state;
  nb::object metadata;
  std::string source;
  std::string reader;
};

/// Their classes.
void bind_results(nb::module_& m);

}  // namespace understudy::python
