#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

Json step_json(const StepInfo& step) {
  return {{"step", step.step},
          {"path", step.path.string()},
          {"is_complete", step.is_complete},
          {"problem", step.is_complete ? Json(nullptr) : Json(step.problem)},
          {"nbytes", step.nbytes},
          {"time", step.time.empty() ? Json(nullptr) : Json(step.time)}};
}

void print_text(const std::vector<StepInfo>& steps) {
  // As wide as the widest of the column, its title included.
  std::size_t step_width = 4, size_width = 4;
  for (const auto& step : steps) {
    step_width = std::max(step_width, fmt::to_string(step.step).size());
    size_width = std::max(size_width, human_size(step.nbytes).size());
  }
  const auto line = [&](auto&& step, auto&& size, auto&& time, auto&& state) {
    print(fmt::format("{:>{}}  {:>{}}  {:<20}  {}\n", step, step_width, size, size_width, time,
                      state));
  };
  line("step", "size", "time", "state");
  for (const auto& step : steps) {
    line(step.step, human_size(step.nbytes), step.time.empty() ? "-" : escape(step.time),
         step.is_complete ? "whole" : "damaged: " + printable(step.problem));
  }
}

}  // namespace

int run(const LsArguments& options) {
  const auto steps = list_steps(options.directory);
  if (options.json) {
    auto array = Json::array();
    for (const auto& step : steps) array.push_back(step_json(step));
    print_json({{"directory", options.directory}, {"steps", std::move(array)}});
  } else if (steps.empty()) {
    print(fmt::format("no steps in '{}'\n", escape(options.directory)));
  } else {
    print_text(steps);
  }
  return std::ranges::all_of(steps, &StepInfo::is_complete) ? kFine : kFinding;
}

}  // namespace understudy::cli
