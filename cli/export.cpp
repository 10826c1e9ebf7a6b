#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

Json report_json(const ExportReport& report) {
  auto files = Json::array();
  for (const auto& file : report.files) files.push_back(file.string());
  return {{"files", std::move(files)},
          {"nbytes", report.nbytes},
          {"tensors", report.tensors},
          {"tied", report.tied},
          {"left_out", report.left_out}};
}

std::string report_text(const std::string& out, const ExportReport& report) {
  auto text = fmt::format("{}: {}, {}", escape(out), counted(report.tensors, "tensor"),
                          human_size(report.nbytes));
  if (report.files.size() > 1) text += fmt::format(" in {}", counted(report.files.size(), "file"));
  text += "\n";
  if (report.tied > 0) {
    text += fmt::format("{} tied to another, named in the metadata only\n",
                        counted(report.tied, "tensor"));
  }
  if (report.left_out > 0) {
    text += fmt::format("{} left out: a plain file holds tensors only\n",
                        counted(report.left_out, "other value"));
  }
  return text;
}

}  // namespace

int run(const ExportArguments& options) {
  const auto report = export_state(options.step, options.out, options.to);
  if (options.json) {
    print_json(report_json(report));
  } else {
    print(report_text(options.out, report));
  }
  return kFine;
}

}  // namespace understudy::cli
