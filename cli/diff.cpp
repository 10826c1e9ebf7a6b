#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

Json differences_json(const DiffArguments& options, const std::vector<Difference>& differences) {
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
                        printable(difference.what));
  }
  return text + counted(differences.size(), "difference") + "\n";
}

}  // namespace

int run(const DiffArguments& options) {
  const auto differences = diff(options.a, options.b);
  if (options.json) {
    print_json(differences_json(options, differences));
  } else {
    print(differences_text(differences));
  }
  return differences.empty() ? kFine : kFinding;
}

}  // namespace understudy::cli
