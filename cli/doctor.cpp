#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

Json probe_json(const Probe& probe) {
  return {{"name", probe.name},
          {"is_available", probe.is_available},
          {"detail", probe.detail},
          {"cost", probe.cost},
          {"remedy", probe.remedy.empty() ? Json(nullptr) : Json(probe.remedy)}};
}

std::string probes_text(const std::vector<Probe>& probes) {
  std::size_t width = 0;
  for (const auto& probe : probes) width = std::max(width, probe.name.size());
  std::string text;
  for (const auto& probe : probes) {
    text += fmt::format("{:<{}}  {:<3}  {}\n", probe.name, width, probe.is_available ? "yes" : "no",
                        escape(probe.detail));
    if (probe.is_available) continue;
    const std::string margin(width + 7, ' ');
    text += fmt::format("{}without it: {}\n", margin, probe.cost);
    if (!probe.remedy.empty()) text += fmt::format("{}remedy: {}\n", margin, probe.remedy);
  }
  return text;
}

}  // namespace

int run(const DoctorArguments& options) {
  const auto probes = doctor(options.directory);
  if (options.json) {
    auto array = Json::array();
    for (const auto& probe : probes) array.push_back(probe_json(probe));
    print_json({{"directory", options.directory}, {"probes", std::move(array)}});
  } else {
    print(probes_text(probes));
  }
  return kFine;
}

}  // namespace understudy::cli
