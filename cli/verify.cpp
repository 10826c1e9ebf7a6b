#include <fmt/format.h>

#include <algorithm>

#include "commands.h"
#include "output.h"
#include "progress.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

Json report_json(const VerifyReport& report) {
  auto damage = Json::array();
  for (const auto& found : report.damage) {
    damage.push_back(
        {{"file", found.file.string()}, {"offset", found.offset}, {"what", found.what}});
  }
  return {{"path", report.path.string()},
          {"nbytes", report.nbytes},
          {"has_checksums", report.has_checksums},
          {"is_whole", report.is_whole()},
          {"damage", std::move(damage)}};
}

std::string report_text(const VerifyReport& report) {
  const auto path = escape(report.path.string());
  if (!report.is_whole()) {
    auto text = fmt::format("{}: damaged in {}\n", path, counted(report.damage.size(), "place"));
    for (const auto& found : report.damage) {
      text += fmt::format("  {} at byte {}: {}\n", escape(found.file.string()), found.offset,
                          printable(found.what));
    }
    return text;
  }
  const auto size = human_size(report.nbytes);
  if (report.has_checksums) {
    return fmt::format("{}: whole, {} match their checksums\n", path, size);
  }
  return fmt::format("{}: well formed, {}; without checksums the contents cannot be verified\n",
                     path, size);
}

VerifyReport verify_one(const std::string& path) {
  ProgressLine line("verify");
  return verify(path, &ProgressLine::update, &line);
}

/// Several paths: what cannot be verified does not keep the others from it.
int run_all(const VerifyArguments& options) {
  int status = kFine;
  auto reports = Json::array();
  for (const auto& path : options.paths) {
    try {
      const auto report = verify_one(path);
      reports.push_back(report_json(report));
      if (!options.json) print(report_text(report));
      if (!report.is_whole()) status = std::max<int>(status, kFinding);
    } catch (const Error& error) {
      print_error(error.what());
      reports.push_back({{"path", path}, {"error", error_json(error.code(), error.what())}});
      status = std::max(status, exit_for(error.code()));
    }
  }
  if (options.json) print_json({{"reports", std::move(reports)}});
  return status;
}

}  // namespace

int run(const VerifyArguments& options) {
  if (options.paths.size() > 1) return run_all(options);
  const auto report = verify_one(options.paths.front());
  if (options.json) {
    print_json(report_json(report));
  } else {
    print(report_text(report));
  }
  return report.is_whole() ? kFine : kFinding;
}

}  // namespace understudy::cli
