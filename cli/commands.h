// The commands: each one adds itself to the program's grammar.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace understudy::cli {

/// Exit status of the program.
enum Exit : int {
  kFine = 0,
  kFinding = 1,  ///< damaged, or different
  kFailed = 2,   ///< could not do it
};

/// What was asked for; gives the exit status. Empty until the command line is
/// parsed.
using Action = std::function<int()>;

void add_ls(CLI::App& app, Action& action);
void add_show(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_diff(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_doctor(CLI::App& app, Action& action);

/// The flag that every command has.
inline void add_json_flag(CLI::App* command, bool& json) {
  command->add_flag("--json", json, "Write one JSON document instead of text");
}

}  // namespace understudy::cli
