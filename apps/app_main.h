// What every program shares: the options all of them take, and the one place where an exception becomes a
// message and an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apo/run_config.h"
#include "apo/serving/options.h"
#include "apo/training/trainer.h"

namespace apo::apps {

/// `--config`, `--set`, `--plugin`, and the ways to print instead of running.
struct ConfigArguments {
  std::string config;
  std::vector<std::string> overrides, plugins;
  bool print_config = false, print_schema = false, print_reference = false;
};
void add_config_options(CLI::App& app, ConfigArguments& arguments);

/// `--resume`, `--overwrite`.
struct ExistingRunArguments {
  bool resume = false;
  bool overwrite = false;
  training::ExistingRun value() const;
};
void add_existing_run_options(CLI::App& app, ExistingRunArguments& arguments);

/// Whether a program can do without --config (defaults and overrides alone).
enum class ConfigNeed { required, optional };
/// Loads the plug-ins, reads the config, applies the overrides and sets the log level; with --print-config,
/// --print-schema or --print-reference prints and returns nothing. ConfigError if a required --config is
/// missing.
std::optional<RunConfig> read_config(const ConfigArguments& arguments,
                                     ConfigNeed need = ConfigNeed::required);

/// What the console's "refine now" starts: apo-train beside this program, with the same config and overrides,
/// on `recording`; nothing where that program is not there.
serving::RefinePlan plan_refinement(const ConfigArguments& arguments, const RunConfig& config,
                                    const std::filesystem::path& recording);

/// What `--help` shows below the options: command lines, each with what it does.
using Examples = std::vector<std::pair<std::string, std::string>>;
void add_examples(CLI::App& app, const Examples& examples);

/// Parses the command line and runs `body`. Whatever is printed passes through `printable`. Errors become one
/// message on stderr and the exit code: 0 done, 2 wrong usage or config, 3 wrong data or checkpoint, 4
/// failure while running, 130 interrupted.
int run_app(CLI::App& app, int argc, char** argv, const std::function<void()>& body);

}  // namespace apo::apps
