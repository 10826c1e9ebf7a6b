// The grammar of the command line. Only who parses includes this: CLI11 costs the
// compiler ten seconds a file.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace understudy::cli {

/// What was asked for; gives the exit status. Empty until the command line is
/// parsed.
using Action = std::function<int()>;

/// Adds all commands.
void add_commands(CLI::App& app, Action& action);

}  // namespace understudy::cli
