#include <fmt/format.h>

#include <memory>

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
                          escape(found.what));
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

}  // namespace

int run(const VerifyArguments& options) {
  VerifyReport report;
  {
    ProgressLine line("verify");
    report = verify(options.path, &ProgressLine::update, &line);
  }
  if (options.json) {
    print_json(report_json(report));
  } else {
    print(report_text(report));
  }
  return report.is_whole() ? kFine : kFinding;
}

}  // namespace understudy::cli
