// apo-eval: seeded trials of a policy in the environment, or its log-probabilities on recorded steps.
#include <iostream>

#include "app_main.h"
#include "apo/base/log.h"

namespace {

using namespace apo;

struct EvalArguments {
  apps::ConfigArguments config;
  std::string dataset;
  std::string output;
};

void run_eval(const EvalArguments& arguments) {
  const auto config = apps::read_config(arguments.config);
  if (!config) return;
  APO_CHECK(ConfigError, !config->training.policy.checkpoint.empty(),
            arguments.config.config, ": policy.checkpoint: expected the policy to evaluate, found nothing");
  const auto policy = models::make_policy(config->training.policy, nullptr, config->training.run.seed,
                                          training::select_device(config->training.run.device));
  if (!arguments.dataset.empty()) {
    APO_CHECK(ConfigError, !arguments.output.empty(), "--dataset needs --output FILE");
    data::DataOptions data = config->training.data;
    deploy::score_dataset(*policy, arguments.dataset, data, config->training.train.batch_size, arguments.output);
    std::cout << "scores " << arguments.output << "\n";
    return;
  }
  const deploy::EvalResult result = deploy::evaluate(*policy, config->environment, config->eval);
  const std::string directory =
      arguments.output.empty() ? config->training.run.dir + "/evaluation" : arguments.output;
  if (std::filesystem::exists(directory + "/results.json")) log_warn(directory, "/results.json: replaced");
  deploy::write_results(result, config->environment, config->eval, directory);
  std::cout << result.text() << "results " << directory << "/results.json\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Evaluates policy.checkpoint: seeded trials in the environment (success with Wilson intervals, results.json, "
      "animations), or with --dataset the log-probability of every recorded step.",
      "apo-eval");
  EvalArguments arguments;
  apps::add_config_options(app, arguments.config);
  app.add_option("--dataset", arguments.dataset, "score this HDF5 file, directory or glob instead")->type_name("PATH");
  app.add_option("--output", arguments.output,
                 "directory for results.json (default run.dir/evaluation); with --dataset the JSON lines file")
      ->type_name("PATH");
  return apps::run_app(app, argc, argv, [&] { run_eval(arguments); });
}
