#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"
#include "understudy/recover.h"

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

/// In the usual place; what lies in another one is for `recover --memory`.
std::vector<SurvivorInfo> survivors_of(const std::string& directory) {
  try {
    return list_survivors(directory, kMemoryFolder, /*verify=*/false);
  } catch (const Error&) {
    return {};  // there is no such place, or it is not this user's
  }
}

Json survivor_json(const SurvivorInfo& one) {
  return {{"step", one.step},
          {"path", one.path.string()},
          {"nbytes", one.nbytes},
          {"problem", one.is_whole() ? Json(nullptr) : Json(one.problem)}};
}

std::string survivors_text(const std::vector<SurvivorInfo>& survivors) {
  std::string text;
  for (const auto& one : survivors) {
    text += fmt::format("step {} is in memory, {}{}{}\n", one.step, human_size(one.nbytes),
                        one.is_on_disk ? "" : ", and not on the disk",
                        one.is_whole() ? std::string() : ": " + printable(one.problem));
  }
  return text;
}

}  // namespace

int run(const LsArguments& options) {
  const auto steps = list_steps(options.directory);
  const auto survivors = survivors_of(options.directory);
  if (options.json) {
    auto array = Json::array(), in_memory = Json::array();
    for (const auto& step : steps) array.push_back(step_json(step));
    for (const auto& one : survivors) in_memory.push_back(survivor_json(one));
    print_json({{"directory", options.directory},
                {"steps", std::move(array)},
                {"survivors", std::move(in_memory)}});
  } else {
    if (steps.empty()) print(fmt::format("no steps in '{}'\n", escape(options.directory)));
    if (!steps.empty()) print_text(steps);
    print(survivors_text(survivors));
  }
  return std::ranges::all_of(steps, &StepInfo::is_complete) ? kFine : kFinding;
}

}  // namespace understudy::cli
