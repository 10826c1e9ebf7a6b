#include "understudy/recover.h"

#include <fmt/format.h>

#include <algorithm>

#include "commands.h"
#include "output.h"

namespace understudy::cli {
namespace {

bool contains(const std::vector<std::int64_t>& steps, std::int64_t step) {
  return std::ranges::find(steps, step) != steps.end();
}

Json report_json(const RecoverReport& report) {
  auto survivors = Json::array();
  for (const auto& one : report.survivors) {
    survivors.push_back({{"step", one.step},
                         {"path", one.path.string()},
                         {"nbytes", one.nbytes},
                         {"time", one.time.empty() ? Json(nullptr) : Json(one.time)},
                         {"ranks", one.ranks},
                         {"is_whole", one.is_whole()},
                         {"problem", one.is_whole() ? Json(nullptr) : Json(one.problem)},
                         {"is_on_disk", one.is_on_disk},
                         {"is_written", contains(report.written, one.step)},
                         {"is_removed", contains(report.removed, one.step)}});
  }
  return {{"survivors", std::move(survivors)}};
}

std::string outcome(const SurvivorInfo& one, const RecoverReport& report) {
  if (contains(report.written, one.step)) return "written to the folder";
  if (contains(report.removed, one.step)) {
    return one.is_on_disk ? "removed: it is in the folder" : "discarded";
  }
  if (!one.is_whole()) return "kept; --discard removes it";
  return one.is_on_disk ? "in the folder, too" : "not in the folder";
}

std::string report_text(const std::string& directory, const RecoverReport& report) {
  if (report.survivors.empty()) {
    return fmt::format("nothing of '{}' is in memory\n", escape(directory));
  }
  std::string text;
  for (const auto& one : report.survivors) {
    text +=
        fmt::format("step {}  {}  {}  {}  {}  {}\n", one.step, human_size(one.nbytes),
                    counted(static_cast<std::uint64_t>(one.ranks), "rank"),
                    one.time.empty() ? "-" : escape(one.time),
                    one.is_whole() ? std::string("whole") : "not usable: " + printable(one.problem),
                    outcome(one, report));
  }
  return text;
}

}  // namespace

int run(const RecoverArguments& options) {
  RecoverReport report;
  if (options.list) {
    report.survivors = list_survivors(options.directory, options.memory);
  } else {
    report = recover(options.directory, {.memory = options.memory, .discard = options.discard});
  }
  if (options.json) {
    auto document = report_json(report);
    document["directory"] = options.directory;
    print_json(document);
  } else {
    print(report_text(options.directory, report));
  }
  const bool is_fine =
      options.discard || std::ranges::all_of(report.survivors, &SurvivorInfo::is_whole);
  return is_fine ? kFine : kFinding;
}

}  // namespace understudy::cli
