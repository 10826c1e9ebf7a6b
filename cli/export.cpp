#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "output.h"
#include "understudy/inspect.h"

namespace understudy::cli {
namespace {

struct Options {
  std::string step;
  std::string out;
  ExportOptions to;
  bool json = false;
};

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

int run(const Options& options) {
  const auto report = export_state(options.step, options.out, options.to);
  if (options.json) {
    print_json(report_json(report));
  } else {
    print(report_text(options.out, report));
  }
  return kFine;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  auto* command = app.add_subcommand("export", "Write the tensors as a plain safetensors file");
  command
      ->add_option("STEP", options->step,
                   "A step's folder, a run's folder (its newest step) or a file")
      ->required();
  command->add_option("OUT", options->out, "What to write; it must not exist")->required();
  auto* hf = command->add_flag("--hf", options->to.hugging_face,
                               "Write a Hugging Face folder: model.safetensors, or numbered files "
                               "with an index");
  command->add_option("--prefix", options->to.prefix,
                      "Only what lies below, for example 'model'; names lose the prefix");
  command
      ->add_option("--max-shard-size", options->to.max_shard_nbytes,
                   "Largest file of a Hugging Face folder, for example 500MB or 2GiB")
      ->needs(hf)
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_json_flag(command, options->json);
  command->footer("Tied tensors are written once; the metadata names the other.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace understudy::cli
