#include "grammar.h"

#include <memory>

#include "commands.h"

namespace understudy::cli {
namespace {

// The flag that every command has.
void add_json_flag(CLI::App* command, bool& json) {
  command->add_flag("--json", json, "Write one JSON document instead of text");
}

void add_ls(CLI::App& app, Action& action) {
  auto options = std::make_shared<LsArguments>();
  auto* command = app.add_subcommand("ls", "List the steps of a run's folder");
  command->add_option("DIR", options->directory, "The run's folder")->required();
  add_json_flag(command, options->json);
  command->footer("Reads manifests and sizes only. Exit status 1 when a step is damaged.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

void add_show(CLI::App& app, Action& action) {
  auto options = std::make_shared<ShowArguments>();
  auto* command =
      app.add_subcommand("show", "Show what a step or a safetensors file of anyone's holds");
  command
      ->add_option("PATH", options->path,
                   "A step's folder, a run's folder (its newest step) or a file")
      ->required();
  command->add_flag("--all", options->all, "Cut no long lists and texts");
  add_json_flag(command, options->json);
  command->footer("Reads headers only, never the tensors. Exit status 1 when the step is damaged.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

void add_verify(CLI::App& app, Action& action) {
  auto options = std::make_shared<VerifyArguments>();
  auto* command = app.add_subcommand("verify", "Read every byte and check it");
  command
      ->add_option("PATH", options->paths,
                   "Steps' folders, runs' folders (their newest step) or files")
      ->required();
  add_json_flag(command, options->json);
  command->footer("Exit status 1 when there is damage, 2 when one could not be verified.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

void add_diff(CLI::App& app, Action& action) {
  auto options = std::make_shared<DiffArguments>();
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

void add_export(CLI::App& app, Action& action) {
  auto options = std::make_shared<ExportArguments>();
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

void add_recover(CLI::App& app, Action& action) {
  auto options = std::make_shared<RecoverArguments>();
  auto* command = app.add_subcommand(
      "recover", "Write what survived in memory of a run that ended to its folder");
  command->add_option("DIR", options->directory, "The run's folder")->required();
  auto* list = command->add_flag("--list", options->list, "Only list it; change nothing");
  command->add_flag("--discard", options->discard, "Remove it from memory and write nothing")
      ->excludes(list);
  command->add_option("--memory", options->memory, "The folder in memory that survive= named")
      ->capture_default_str();
  add_json_flag(command, options->json);
  command->footer(
      "Steps that were captured and not on the disk yet when the process ended. Exit status 1 when "
      "one is damaged, 2 while the run's process lives.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

void add_doctor(CLI::App& app, Action& action) {
  auto options = std::make_shared<DoctorArguments>();
  auto* command = app.add_subcommand(
      "doctor", "Say what this machine offers, and what it costs not to have it");
  command->add_option("DIR", options->directory, "Where direct I/O is tried")
      ->capture_default_str();
  add_json_flag(command, options->json);
  command->footer("Changes nothing. Exit status 0 whatever is missing.");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace

void add_commands(CLI::App& app, Action& action) {
  add_ls(app, action);
  add_show(app, action);
  add_verify(app, action);
  add_diff(app, action);
  add_export(app, action);
  add_recover(app, action);
  add_doctor(app, action);
}

}  // namespace understudy::cli
