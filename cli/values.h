// A state for people, and for programs.
#pragma once

#include <string>

#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {

/// The tree as indented lines. Long lists and texts are cut unless `all`.
std::string tree_text(const Description& description, bool all);

/// The tree as nested nodes (docs/cli.md has the fields).
Json tree_json(const Description& description);

/// User metadata, whose types are JSON's, as a JSON value.
Json metadata_json(const Value& metadata);

}  // namespace understudy::cli
