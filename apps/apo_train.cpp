// apo-train: one training run, from a YAML config to checkpoints.
#include <iostream>

#include "apo/base/files.h"
#include "apo/base/finishing.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/distributed/group.h"
#include "apo/report/report.h"
#include "app_main.h"

namespace {

using namespace apo;

struct TrainArguments {
  apps::ConfigArguments config;
  apps::ExistingRunArguments existing;
  bool dry_run = false;
  int64_t profile = 0;
};

// Evaluates in the environment during training, when the config asks for it.
training::TrainHooks hooks_of(const RunConfig& config) {
  training::TrainHooks hooks;
  hooks.config_yaml = config::print(loop::RefineSetup(config));
  if (config.training.train.eval_every > 0) {
    hooks.evaluate = [&config](models::Policy& policy, int64_t) {
      const deploy::EvalResult result = deploy::evaluate(policy, config.environment, config.eval);
      return std::map<std::string, double>{{"success_rate", result.success.rate},
                                           {"unaided_rate", result.unaided.rate}};
    };
    // a camera or a server that is not there is told now, not after the first steps
    hooks.try_evaluation = [&config](const models::Policy& policy) {
      try {
        deploy::check_evaluation(policy, config.environment, config.eval);
      } catch (const DataError& error) {
        throw ConfigError(concat("train.eval_every: ", error.what()));
      } catch (const RunError& error) {
        throw RunError(concat("train.eval_every: ", error.what()));
      }
    };
  }
  return hooks;
}

void write_report(const std::string& run_dir) {
  const Finishing finishing("report.html");
  try {
    report::write_run_report(run_dir);
  } catch (const std::exception& error) {
    log_warn("no report.html: ", error.what());
  }
}

void run_train(const TrainArguments& arguments) {
  const auto config = apps::read_config(arguments.config);
  if (!config) return;
  const training::TrainingOptions& options = config->training;
  if (arguments.dry_run) {
    training::dry_run(options, std::cout);
    return;
  }
  distributed::Group group(distributed::place_of_process(), options.distributed);
  training::TrainHooks hooks = hooks_of(*config);
  hooks.group = &group;
  hooks.profile_steps = arguments.profile;
  if (!group.is_first()) {  // which tells and reports for all
    if (options.logging.level != "error") set_log_level(LogLevel::warn);
    training::train(options, arguments.existing.value(), hooks);
    return;
  }
  try {
    const auto result = training::train(options, arguments.existing.value(), hooks);
    write_report(options.run.dir);
    if (!result.profile.empty()) std::cout << read_file(result.profile) << "\n";
    std::cout << "checkpoint " << result.checkpoint.string() << "\nreport     " << options.run.dir
              << "/report.html\n";
  } catch (const Interrupted&) {
    write_report(options.run.dir);
    throw;
  } catch (const training::Stopped&) {
    write_report(options.run.dir);
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains a vision-language-action policy on recorded trajectories: by supervised fine-tuning "
      "(objective.type: sft) or by Action Preference Optimization (apo, arXiv 2506.07127) on desirable and "
      "undesirable steps.",
      "apo-train");
  TrainArguments arguments;
  apps::add_config_options(app, arguments.config);
  apps::add_existing_run_options(app, arguments.existing);
  app.add_flag("--dry-run", arguments.dry_run,
               "check config and data, print pools, parameters, memory estimate and steps, and stop");
  app.add_option(
         "--profile", arguments.profile,
         "after three steps record N: where their time went is told at the end and in run.dir/profile.md, "
         "a trace for Chrome and Perfetto is run.dir/profile.trace.json")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->excludes("--dry-run");
  apps::add_examples(
      app,
      {{"apo-train --config tabletop_sft --dry-run", "is everything there? pools, parameters, memory, steps"},
       {"apo-train --config tabletop_apo --set run.dir=runs/mine --set objective.beta=0.2",
        "a run with other options"},
       {"apo-train --config tabletop_apo --set run.dir=runs/profile --set train.max_steps=23 --profile 20",
        "where does the time of a step go?"},
       {"apo-train --config runs/mine/config.yaml --resume", "goes on with a run that was stopped"}});
  return apps::run_app(app, argc, argv, [&] { run_train(arguments); });
}
