// apo-data: what recorded data holds, who in it is desirable, and checkpoints for the Python world.
#include <fstream>
#include <iostream>
#include <sstream>

#include "app_main.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/data/inspect.h"
#include "apo/models/export.h"

namespace {

using namespace apo;

struct DataArguments {
  apps::ConfigArguments config;
  std::vector<std::string> paths;
  bool json = false;
  std::string output, write;
};

void add_data_options(CLI::App& command, DataArguments& arguments) {
  apps::add_config_options(command, arguments.config);
  command.add_option("paths", arguments.paths, "HDF5 files, directories or globs, instead of the config's sources")
      ->type_name("PATH");
}

// The sources of the config, or the paths of the command line with the config's labels and filters.
std::optional<data::DataOptions> data_options(const DataArguments& arguments) {
  const auto config = apps::read_config(arguments.config, apps::ConfigNeed::optional);
  if (!config) return std::nullopt;
  data::DataOptions options = config->training.data;
  if (!arguments.paths.empty()) {
    const data::DataOptions given = data::options_for_paths(arguments.paths);
    options.expert = given.expert;
    options.interactions = given.interactions;
  }
  return options;
}

void run_inspect(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  std::cout << (arguments.json ? data::inspect_json(*options) : data::inspect_text(*options)) << std::flush;
}

void run_label(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  if (!arguments.write.empty())
    for (const auto& file : data::write_labels(*options, arguments.write)) std::cout << "labelled " << file.string() << "\n";
  if (arguments.output.empty() && !arguments.write.empty()) return;
  std::ostringstream lines;
  const data::LabelCounts counts = data::write_label_lines(*options, lines);
  if (arguments.output.empty()) {
    std::cout << lines.str();
    return;
  }
  write_file_atomic(arguments.output, lines.str());
  for (const auto& [label, count] : counts) std::cout << count << "  " << label << "\n";
  std::cout << "labels " << arguments.output << "\n";
}

struct ExportArguments {
  std::string checkpoint, adapter, output;
  models::ExportOptions options;
};

void add_export(CLI::App& app, ExportArguments& arguments) {
  CLI::App* command = app.add_subcommand("export", "a Hugging Face directory: a checkpoint with its adapter merged");
  command->add_option("--checkpoint", arguments.checkpoint, "Hugging Face directory, training checkpoint or run")
      ->required()->type_name("DIR");
  command->add_option("--adapter", arguments.adapter, "PEFT directory to merge (a training checkpoint brings its own)")
      ->type_name("DIR");
  command->add_option("--output", arguments.output, "new directory")->required()->type_name("DIR");
  command->add_option("--dtype", arguments.options.dtype, "stored (each tensor its own), float32, bfloat16 or float16")
      ->capture_default_str();
  command->add_option("--max-shard-bytes", arguments.options.max_shard_bytes, "largest weight file")->capture_default_str();
  command->add_flag("--overwrite", arguments.options.overwrite, "replace an earlier checkpoint");
}

void run_export(const ExportArguments& arguments) {
  const auto summary =
      models::export_checkpoint(arguments.checkpoint, arguments.adapter, arguments.output, arguments.options);
  for (const std::string& name : summary.weights) std::cout << "weights " << name << "\n";
  for (const std::string& name : summary.copied) std::cout << "copied  " << name << "\n";
  std::cout << "exported " << summary.num_tensors << " tensors (" << summary.num_merged << " merged, " << summary.num_bytes
            << " bytes) to " << arguments.output << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Looks at recorded trajectories: what they hold, and which steps are desirable and why; exports checkpoints.",
               "apo-data");
  app.require_subcommand(1);
  DataArguments arguments;
  CLI::App* inspect = app.add_subcommand("inspect", "episodes, take-overs, labels by reason, pools, action ranges, cameras");
  add_data_options(*inspect, arguments);
  inspect->add_flag("--json", arguments.json, "print one JSON object instead of a table");
  CLI::App* label = app.add_subcommand("label", "one JSON object a step: its label and why");
  add_data_options(*label, arguments);
  label->add_option("--output", arguments.output, "JSON lines file (default: standard output)")->type_name("FILE");
  label->add_option("--write", arguments.write, "store the labels in copies: a new HDF5 file, or a directory for several")
      ->type_name("OUT");
  ExportArguments export_arguments;
  add_export(app, export_arguments);
  return apps::run_app(app, argc, argv, [&] {
    if (app.got_subcommand("export")) return run_export(export_arguments);
    inspect->parsed() ? run_inspect(arguments) : run_label(arguments);
  });
}
