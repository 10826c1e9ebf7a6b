#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <new>
#include <sstream>
#include <string_view>

#include "commands.h"
#include "grammar.h"
#include "output.h"
#include "understudy/error.h"
#include "understudy/version.h"

namespace understudy::cli {
namespace {

constexpr auto kFooter =
    R"(PATH is a step's folder, a run's folder (its newest step) or a safetensors file of anyone's.

Examples:
  understudy ls runs/a
  understudy show runs/a
  understudy show model.safetensors --all
  understudy verify runs/a/step-700
  understudy diff runs/a/step-600 runs/a/step-700
  understudy export runs/a weights.safetensors --prefix model
  understudy export runs/a hf-model --hf --prefix model
  understudy recover runs/a
  understudy doctor runs

Exit status: 0 fine, 1 a finding (damaged, different), 2 could not do it.)";

/// Says it to people, and to programs that read the output as JSON.
int report(ErrorCode code, std::string_view message, bool json) {
  print_error(message);
  // Standard output may be what failed.
  try {
    if (json) print_json({{"error", error_json(code, message)}});
    flush_output();
  } catch (const Error&) {
    return kFailed;
  }
  return exit_for(code);
}

/// True when `--json` is among the arguments, also where they make no sense.
bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    if (std::string_view(argv[i]) == "--json") return true;
  }
  return false;
}

/// The first argument that is no option, where no command is called so.
std::string unknown_command(const CLI::App& app, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with('-')) continue;
    std::string names;
    for (const auto* command : app.get_subcommands(nullptr)) {
      if (command->get_name() == argv[i]) return {};
      names += (names.empty() ? "" : ", ") + command->get_name();
    }
    return fmt::format("there is no command '{}', only {}", argv[i], names);
  }
  return {};
}

/// Help and version are no errors, though they come as exceptions. `unknown`: what
/// is wrong with the command's name.
int finish_parsing(const CLI::App& app, const CLI::ParseError& error, const std::string& unknown,
                   bool json) {
  if (error.get_exit_code() == 0) {
    std::ostringstream out;
    app.exit(error, out, out);
    print(out.str());
    flush_output();
    return kFine;
  }
  const auto commands = app.get_subcommands();
  return report(
      ErrorCode::invalid,
      fmt::format("{} (see understudy {}--help)", unknown.empty() ? error.what() : unknown,
                  commands.empty() ? "" : commands.front()->get_name() + " "),
      json);
}

int run_program(int argc, char** argv) {
  const bool json = wants_json(argc, argv);
  CLI::App app("Look into, verify, compare and export the checkpoints of training jobs.",
               "understudy");
  app.set_version_flag("--version", fmt::format("understudy {}", kVersion));
  app.require_subcommand(1);
  app.footer(kFooter);
  Action action;
  add_commands(app, action);
  try {
    app.parse(argc, argv);
    const int status = action();
    flush_output();
    return status;
  } catch (const CLI::ParseError& error) {
    return finish_parsing(app, error, unknown_command(app, argc, argv), json);
  } catch (const Error& error) {
    return report(error.code(), error.what(), json);
  } catch (const std::bad_alloc&) {
    return report(ErrorCode::no_space, "there is not enough memory", json);
  } catch (const std::exception& error) {
    return report(ErrorCode::io, error.what(), json);
  }
}

}  // namespace
}  // namespace understudy::cli

int main(int argc, char** argv) {
  // A reader who goes away, as `head` does, must not kill us half way: the exit
  // status is still to be told.
  std::signal(SIGPIPE, SIG_IGN);
  return understudy::cli::run_program(argc, argv);
}
