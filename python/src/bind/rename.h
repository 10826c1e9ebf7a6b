// The argument `rename` of resume: a dict of prefixes, or a function from path to path.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/common.h"

namespace understudy::python {

/// The prefixes of a dict; none for what is no dict.
std::vector<std::pair<std::string, std::string>> prefixes_of(nb::handle rename);

/// A function that calls `rename`, which must outlive it; empty for None and dicts. It takes
/// the GIL. What `rename` raises passes through.
std::function<std::string(const std::string&)> renaming_by(nb::handle rename);

}  // namespace understudy::python
