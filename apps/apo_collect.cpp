// apo-collect: deploys a policy under a human's eyes and records what happens, or records demonstrations.
#include <iostream>

#include "apo/base/device.h"
#include "apo/deploy/outputs.h"
#include "apo/models/registry.h"
#include "apo/serving/browser.h"
#include "app_main.h"

namespace {

using namespace apo;

struct CollectArguments {
  apps::ConfigArguments config;
  std::string output, human;
  bool demonstrations = false;
};

void run_collect(const CollectArguments& arguments) {
  const auto config = apps::read_config(arguments.config);
  if (!config) return;
  APO_CHECK(ConfigError, !arguments.output.empty(), "--output FILE is required");
  deploy::check_recording(arguments.output);  // what cannot be written is told before the work begins
  if (arguments.demonstrations) {
    std::cout << deploy::collect_demonstrations(config->environment, config->deploy.demonstrations,
                                                arguments.output)
                     .text();
    return;
  }
  APO_CHECK(ConfigError, !config->training.policy.checkpoint.empty(), arguments.config.config,
            ": policy.checkpoint: expected the policy to deploy, found nothing");
  const auto policy = models::make_policy(config->training.policy, nullptr, config->training.run.seed,
                                          select_device(config->training.run.device));
  const auto environment = environments::make_environment(config->environment);
  deploy::InterventionOptions who = config->deploy.intervention;
  if (!arguments.human.empty()) who.type = arguments.human;
  const data::DataOptions& data = config->training.data;
  serving::register_browser_human(config->serve, {.labels = data.labels, .filter = data.filter},
                                  {.plan = apps::plan_refinement(arguments.config, *config, arguments.output),
                                   .recording = arguments.output});
  const auto human = deploy::make_intervention_source(who);
  std::cout
      << deploy::collect(*environment, *policy, *human, config->deploy.collect, arguments.output).text();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Deploys a policy in the environment, lets a (simulated) human take over, and records every step to "
      "HDF5. With --demonstrations the environment's expert acts instead.",
      "apo-collect");
  CollectArguments arguments;
  apps::add_config_options(app, arguments.config);
  app.add_option("--output", arguments.output, "HDF5 file to write")->type_name("FILE");
  app.add_option("--human", arguments.human,
                 "who may take over, in place of deploy.intervention.type: none, scripted, browser")
      ->type_name("NAME");
  app.add_flag("--demonstrations", arguments.demonstrations, "record the expert's demonstrations");
  apps::add_examples(
      app,
      {{"apo-collect --config tabletop --demonstrations --output demos.hdf5", "the expert's demonstrations"},
       {"apo-collect --config tabletop --set policy.checkpoint=runs/base --output interactions.hdf5",
        "deploys the policy and records it with the take-overs"},
       {"apo-collect --config tabletop --set policy.checkpoint=runs/base --human browser --output "
        "interactions.hdf5",
        "the same, and you take over in a browser"},
       {"apo-collect --config tabletop --set policy.checkpoint=runs/base --set "
        "deploy.collect.existing=append --output interactions.hdf5",
        "goes on with a recording that was stopped"}});
  return apps::run_app(app, argc, argv, [&] { run_collect(arguments); });
}
