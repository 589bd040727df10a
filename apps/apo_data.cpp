// apo-data: what recorded data holds, who in it is desirable, whether it is fit for training; other layouts,
// pictures, statistics; checkpoints for the Python world, and servers of environments.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <sstream>

#include "apo/audit/contact_sheet.h"
#include "apo/audit/convert.h"
#include "apo/audit/fit_fast.h"
#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "apo/data/statistics.h"
#include "apo/environments/remote.h"
#include "apo/models/export.h"
#include "apo/models/registry.h"
#include "apo/pictures/webp.h"
#include "apo/report/report.h"
#include "apo/training/policy_data.h"
#include "app_main.h"

namespace {

using namespace apo;

struct DataArguments {
  apps::ConfigArguments config;
  std::vector<std::string> paths;
  data::TrajectoryFormat format = data::TrajectoryFormat::automatic;
  data::ImageOrientation orientation = data::ImageOrientation::automatic;
  std::string instruction;
  bool json = false, strict = false;
  std::string output, write, name = "dataset";
  data::TrajectoryFormat to = data::TrajectoryFormat::apo;
  audit::ContactSheetOptions sheet;
  audit::FitFastOptions fit_fast;
};

// One of the names of an enum, as in a config; `only` some of them if given.
template <class E>
CLI::Option* add_enum_option(CLI::App& command, const std::string& names, E& value, const std::string& help,
                             const std::vector<E>& only = {}) {
  std::vector<std::string> valid;
  for (const auto& [entry, name] : enum_names(value))
    if (only.empty() || std::find(only.begin(), only.end(), entry) != only.end()) valid.emplace_back(name);
  const auto choose = [&value](const std::string& text) {
    for (const auto& [entry, name] : enum_names(value))
      if (name == text) value = entry;
  };
  return command.add_option_function<std::string>(names, choose, help)
      ->check(CLI::IsMember(valid))
      ->type_name("NAME");
}

void add_data_options(CLI::App& command, DataArguments& arguments) {
  apps::add_config_options(command, arguments.config);
  command
      .add_option("paths", arguments.paths,
                  "HDF5 files, directories or globs, instead of the config's sources")
      ->type_name("PATH");
  add_enum_option(command, "--format", arguments.format, "layout of every PATH");
  command
      .add_option("--instruction", arguments.instruction,
                  "what the robot was asked to do in every PATH; it replaces what the files say")
      ->type_name("TEXT");
  add_enum_option(command, "--image-orientation", arguments.orientation,
                  "how the pictures of every PATH are turned");
}

// The sources of the config, or the paths of the command line with the config's labels and filters.
data::DataOptions data_options(const RunConfig& config, const DataArguments& arguments) {
  data::DataOptions options = config.training.data;
  options.policy_gripper = config.training.policy.gripper;
  APO_CHECK(ConfigError,
            !arguments.paths.empty() ||
                (arguments.format == data::TrajectoryFormat::automatic && arguments.instruction.empty() &&
                 arguments.orientation == data::ImageOrientation::automatic),
            "--format, --instruction and --image-orientation speak of PATHs, and none is given; in a config "
            "each source has them as its own options");
  if (!arguments.paths.empty()) {
    const data::DataOptions given = audit::options_for_paths(arguments.paths, arguments.format,
                                                             arguments.instruction, arguments.orientation);
    options.expert = given.expert;
    options.interactions = given.interactions;
  }
  return options;
}

// Nothing if a print of the config was asked for.
std::optional<data::DataOptions> data_options(const DataArguments& arguments) {
  const auto config = apps::read_config(arguments.config, apps::ConfigNeed::optional);
  return config ? std::optional(data_options(*config, arguments)) : std::nullopt;
}

// A checkpoint that is not there yet is no reason not to look at the data.
audit::PolicyInputs inputs_of(const models::PolicyOptions& policy) {
  try {
    return training::policy_inputs(policy);
  } catch (const DataError& error) {
    audit::PolicyInputs inputs{policy.cameras, policy.state_keys, true};
    inputs.gripper = policy.gripper;
    inputs.unreadable = error.what();
    return inputs;
  }
}

void run_inspect(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  std::cout << (arguments.json ? audit::inspect_json(*options) : audit::inspect_text(*options)) << std::flush;
}

void run_label(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  if (!arguments.write.empty())
    for (const auto& file : audit::write_labels(*options, arguments.write))
      std::cout << "labelled " << file.string() << "\n";
  if (arguments.output.empty() && !arguments.write.empty()) return;
  if (!arguments.output.empty())
    check_output("--output", arguments.output, json_lines("earlier label lines", "label"));
  std::ostringstream lines;
  const data::LabelCounts counts = audit::write_label_lines(*options, lines);
  if (arguments.output.empty()) {
    std::cout << lines.str();
    return;
  }
  for (const auto& [label, count] : counts) std::cout << count << "  " << label << "\n";
  write_file_atomic(arguments.output, lines.str());
  std::cout << "labels " << arguments.output << "\n";
}

void run_validate(const DataArguments& arguments) {
  const auto config = apps::read_config(arguments.config, apps::ConfigNeed::optional);
  if (!config) return;
  const audit::PolicyInputs inputs = inputs_of(config->training.policy);
  const audit::Validation result =
      audit::validate(data_options(*config, arguments), arguments.paths.empty(), inputs);
  std::cout << (arguments.json ? to_json(result) : to_text(result)) << std::flush;
  const int64_t errors = result.count(audit::Severity::error),
                warnings = result.count(audit::Severity::warning);
  APO_CHECK(DataError, errors == 0, "the data are not fit for training: ", errors,
            errors == 1 ? " error" : " errors");
  APO_CHECK(DataError, !arguments.strict || warnings == 0, "the data have ", warnings,
            warnings == 1 ? " warning" : " warnings", " (--strict)");
}

void run_convert(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  std::cout << to_text(audit::convert(*options, arguments.to, arguments.output)) << std::flush;
}

void run_contact_sheet(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  const std::filesystem::path output = arguments.output;
  APO_CHECK(ConfigError, output.extension() == ".webp", arguments.output,
            ": expected a name that ends in .webp");
  check_output("--output", output, webp_picture());
  audit::ContactSheetOptions sheet = arguments.sheet;
  sheet.config = arguments.config.config;
  if (!arguments.config.overrides.empty()) sheet.config += sheet.config.empty() ? "--set" : " and --set";
  const at::Tensor picture = audit::contact_sheet(*options, sheet);
  pictures::write_picture(output, picture);
  std::cout << "contact sheet " << arguments.output << " (" << picture.size(1) << "x" << picture.size(0)
            << " pixels)\n";
}

void run_stats(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  if (!arguments.output.empty())
    check_output("--output", arguments.output, json_object("earlier statistics", "q01"));
  const data::Dataset dataset(*options);
  dataset.expect_enough_kept();
  const auto statistics = data::compute_statistics(dataset, dataset.kept_steps(!options->expert.empty()));
  const std::string json = tokenizers::to_json(statistics, arguments.name) + "\n";
  std::cout << (arguments.json ? json : to_text(statistics));
  if (arguments.output.empty()) return;
  write_file_atomic(arguments.output, json);
  if (!arguments.json)
    std::cout << "\nstatistics " << arguments.output << " (name " << arguments.name << ")\n";
}

void run_fit_fast(const DataArguments& arguments) {
  const auto options = data_options(arguments);
  if (!options) return;
  std::cout << to_text(audit::fit_fast(*options, arguments.fit_fast, arguments.output)) << "tokenizer "
            << arguments.output << "\n";
}

CLI::App* add_fit_fast(CLI::App& app, DataArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("fit-fast", "a FAST tokenizer (pi0-FAST) made of the recorded actions");
  add_data_options(*command, arguments);
  audit::FitFastOptions& fit = arguments.fit_fast;
  command->add_option("--horizon", fit.horizon, "actions of a chunk")->required();
  command->add_option("--vocabulary", fit.vocabulary, "pieces at most")->capture_default_str();
  command->add_option("--scale", fit.scale, "larger is finer, with more codes")->capture_default_str();
  command->add_flag("--z-score", fit.z_score, "normalise by mean and deviation instead of quantiles");
  command->add_option("--output", arguments.output, "new directory")->required()->type_name("DIR");
  return command;
}

CLI::App* add_validate(CLI::App& app, DataArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("validate",
                         "is it fit for training? one line a question; exit code 3 if not; with --config "
                         "as its pools and policy need it");
  add_data_options(*command, arguments);
  command->add_flag("--json", arguments.json, "print one JSON object instead of a table");
  command->add_flag("--strict", arguments.strict, "warnings make it unfit, too");
  return command;
}

CLI::App* add_convert(CLI::App& app, DataArguments& arguments) {
  CLI::App* command = app.add_subcommand("convert", "to another layout; what has no place there is listed");
  add_data_options(*command, arguments);
  using Format = data::TrajectoryFormat;
  add_enum_option(*command, "--to", arguments.to,
                  "apo (default), or another; released-interaction is a directory",
                  {Format::apo, Format::robomimic, Format::released_demo, Format::released_interaction});
  command->add_option("--output", arguments.output, "new HDF5 file, or directory")
      ->required()
      ->type_name("OUT");
  return command;
}

CLI::App* add_contact_sheet(CLI::App& app, DataArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("contact-sheet", "a picture of frames with who acted and their labels");
  add_data_options(*command, arguments);
  audit::ContactSheetOptions& sheet = arguments.sheet;
  command->add_option("--output", arguments.output, "picture, always WebP")
      ->required()
      ->type_name("FILE.webp");
  command->add_option("--episode", sheet.episode, "only episodes of this name, e.g. demo_3")
      ->type_name("NAME");
  command->add_option("--episodes", sheet.episodes, "first so many of each file")->capture_default_str();
  command->add_option("--camera", sheet.camera, "which one (default: the first by name)")->type_name("NAME");
  command->add_option("--frames", sheet.frames, "of an episode at most, every take-over among them")
      ->capture_default_str();
  command->add_option("--columns", sheet.columns, "frames in a row")->capture_default_str();
  command->add_option("--size", sheet.size, "height of a frame in pixels")->capture_default_str();
  return command;
}

CLI::App* add_stats(CLI::App& app, DataArguments& arguments) {
  CLI::App* command = app.add_subcommand("stats",
                                         "dataset_statistics.json as OpenVLA has it: of the expert sources' "
                                         "kept steps, or of all if there are none");
  add_data_options(*command, arguments);
  command->add_option("--name", arguments.name, "key of the statistics (unnorm_key)")->capture_default_str();
  command->add_option("--output", arguments.output, "JSON file")->type_name("FILE");
  command->add_flag("--json", arguments.json, "print the JSON instead of a table");
  return command;
}

struct ExportArguments {
  std::string checkpoint, adapter, output;
  models::ExportOptions options;
};

void add_export(CLI::App& app, ExportArguments& arguments) {
  CLI::App* command =
      app.add_subcommand("export", "a Hugging Face directory: a checkpoint with its adapter merged");
  command
      ->add_option("--checkpoint", arguments.checkpoint, "Hugging Face directory, training checkpoint or run")
      ->required()
      ->type_name("DIR");
  command
      ->add_option("--adapter", arguments.adapter,
                   "PEFT directory to merge (a training checkpoint brings its own)")
      ->type_name("DIR");
  command->add_option("--output", arguments.output, "new directory")->required()->type_name("DIR");
  command
      ->add_option("--dtype", arguments.options.dtype,
                   "stored (each tensor its own), float32, bfloat16 or float16")
      ->capture_default_str();
  command->add_option("--max-shard-bytes", arguments.options.max_shard_bytes, "largest weight file")
      ->capture_default_str();
  command->add_flag("--overwrite", arguments.options.overwrite, "replace an earlier checkpoint");
}

constexpr double kLittleKept = 0.5;

void run_export(const ExportArguments& arguments) {
  const auto summary =
      models::export_checkpoint(arguments.checkpoint, arguments.adapter, arguments.output, arguments.options);
  for (const std::string& name : summary.weights) std::cout << "weights " << name << "\n";
  for (const std::string& name : summary.copied) std::cout << "copied  " << name << "\n";
  std::cout << "exported " << summary.num_tensors << " tensors (" << summary.num_merged << " merged, "
            << summary.num_bytes << " bytes) to " << arguments.output << "\n";
  if (summary.num_merged == 0) return;
  std::cout << "kept    " << std::lround(1000 * summary.adapter_kept) / 10.0
            << " % of the adapter's change in the output's precision\n";
  if (summary.adapter_kept < kLittleKept)
    log_warn(arguments.output, ": most of the adapter's change is rounded away (", 100 * summary.adapter_kept,
             " % is kept): the policy acts almost as before it; --dtype float32 keeps it");
}

void add_report(CLI::App& app, std::vector<std::string>& directories) {
  CLI::App* command = app.add_subcommand(
      "report", "report.html anew: of a training run, or of a refinement loop with all its trainings");
  command->add_option("DIR", directories, "run.dir of apo-train or apo-refine")->required()->type_name("");
}

void run_report(const std::vector<std::string>& directories) {
  for (const std::string& directory : directories) {
    report::write_report(directory);
    std::cout << "report " << directory << "/report.html\n";
  }
}

struct CheckRemoteArguments {
  environments::RemoteOptions options;
  int64_t steps = 40;
};

void add_check_remote(CLI::App& app, CheckRemoteArguments& arguments) {
  CLI::App* command = app.add_subcommand(
      "check-remote",
      "plays two seeds twice on a server of environment.type remote and says what it gets wrong; exit code 3 "
      "if anything");
  command->add_option("URL", arguments.options.url, "ws://HOST[:PORT][/PATH]")->required()->type_name("");
  command->add_option("--token", arguments.options.token, "of the server; \"$NAME\": an environment variable")
      ->type_name("TEXT");
  command->add_option("--steps", arguments.steps, "of each episode at most")->capture_default_str();
}

void run_check_remote(const CheckRemoteArguments& arguments) {
  const environments::RemoteCheck check = environments::check_remote(arguments.options, arguments.steps);
  std::cout << check.text() << std::flush;
  const int64_t errors = check.num_errors();
  APO_CHECK(DataError, errors == 0, arguments.options.url, ": the server gets ", errors,
            errors == 1 ? " thing" : " things", " wrong");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Looks at recorded trajectories: what they hold, and which steps are desirable and why; exports "
      "checkpoints.",
      "apo-data");
  app.require_subcommand(1);
  DataArguments arguments;
  CLI::App* inspect =
      app.add_subcommand("inspect", "episodes, take-overs, labels by reason, pools, action ranges, cameras");
  add_data_options(*inspect, arguments);
  inspect->add_flag("--json", arguments.json, "print one JSON object instead of a table");
  CLI::App* label = app.add_subcommand("label", "one JSON object a step: its label and why");
  add_data_options(*label, arguments);
  label->add_option("--output", arguments.output, "JSON lines file (default: standard output)")
      ->type_name("FILE");
  label
      ->add_option("--write", arguments.write,
                   "store the labels in copies: a new HDF5 file, or a directory for several")
      ->type_name("OUT");
  CLI::App* validate = add_validate(app, arguments);
  CLI::App* convert = add_convert(app, arguments);
  CLI::App* contact_sheet = add_contact_sheet(app, arguments);
  CLI::App* stats = add_stats(app, arguments);
  CLI::App* fit_fast = add_fit_fast(app, arguments);
  ExportArguments export_arguments;
  add_export(app, export_arguments);
  std::vector<std::string> report_directories;
  add_report(app, report_directories);
  CheckRemoteArguments check_remote_arguments;
  add_check_remote(app, check_remote_arguments);
  apps::add_examples(
      app, {{"apo-data inspect demos.hdf5", "what a file holds"},
            {"apo-data validate --config my.yaml", "is it fit for the training of this config?"},
            {"apo-data contact-sheet --config my.yaml --output sheet.webp", "who acted, what is learned"},
            {"apo-data check-remote ws://127.0.0.1:8765", "does a robot's server keep to the protocol?"},
            {"apo-data COMMAND --help", "the options of one command"}});
  return apps::run_app(app, argc, argv, [&] {
    if (app.got_subcommand("export")) return run_export(export_arguments);
    if (app.got_subcommand("report")) return run_report(report_directories);
    if (app.got_subcommand("check-remote")) return run_check_remote(check_remote_arguments);
    if (inspect->parsed()) return run_inspect(arguments);
    if (label->parsed()) return run_label(arguments);
    if (validate->parsed()) return run_validate(arguments);
    if (convert->parsed()) return run_convert(arguments);
    if (contact_sheet->parsed()) return run_contact_sheet(arguments);
    if (stats->parsed()) return run_stats(arguments);
    if (fit_fast->parsed()) return run_fit_fast(arguments);
  });
}
