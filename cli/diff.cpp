#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

struct Options {
  std::string a;
  std::string b;
  bool json = false;
};

Json differences_json(const Options& options, const std::vector<Difference>& differences) {
  auto array = Json::array();
  for (const auto& difference : differences) {
    array.push_back({{"path", difference.path}, {"what", difference.what}});
  }
  return {{"a", options.a},
          {"b", options.b},
          {"is_equal", differences.empty()},
          {"differences", std::move(array)}};
}

std::string differences_text(const std::vector<Difference>& differences) {
  if (differences.empty()) return "no difference\n";
  std::string text;
  for (const auto& difference : differences) {
    text += fmt::format("{}: {}\n", difference.path.empty() ? "the state" : escape(difference.path),
                        escape(difference.what));
  }
  return text + counted(differences.size(), "difference") + "\n";
}

int run(const Options& options) {
  const auto differences = diff(options.a, options.b);
  if (options.json) {
    print_json(differences_json(options, differences));
  } else {
    print(differences_text(differences));
  }
  return differences.empty() ? kFine : kFinding;
}

}  // namespace

void add_diff(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("diff", "Compare two states, tensors bit for bit");
  command
      ->add_option("A", options->a, "A step's folder, a run's folder (its newest step) or a file")
      ->required();
  command->add_option("B", options->b, "The same")->required();
  add_json_flag(command, options->json);
  command->footer(
      "Trees, scalars, elements, and which tensors share bytes. Exit status 1 when they differ.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace understudy::cli
