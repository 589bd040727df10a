// apo-serve: a policy behind a port, for robots that speak openpi's or OpenVLA's protocol.
#include "apo/base/device.h"
#include "apo/base/log.h"
#include "apo/deploy/outputs.h"
#include "apo/models/registry.h"
#include "apo/serving/server.h"
#include "app_main.h"

namespace {

using namespace apo;

void run_serve(const apps::ConfigArguments& arguments) {
  const auto config = apps::read_config(arguments);
  if (!config) return;
  const models::PolicyOptions& policy_options = config->training.policy;
  const serving::ServeOptions& options = config->serve;
  APO_CHECK(ConfigError, !policy_options.checkpoint.empty(), arguments.config,
            ": policy.checkpoint: expected the policy to serve, found nothing");
  serving::check_options(options);
  if (!options.record.empty()) deploy::check_recording(options.record);
  const auto policy = models::make_policy(policy_options, nullptr, config->training.run.seed,
                                          select_device(config->training.run.device));
  const auto description = models::describe_policy(policy_options);
  serving::ServedPolicy about;
  if (description) about = serving::served_policy(*description, policy_options.checkpoint);
  about.checkpoint = policy_options.checkpoint;
  about.unnorm_key = policy_options.unnorm_key;
  about.label_rules = {.labels = config->training.data.labels, .filter = config->training.data.filter};
  about.refine = apps::plan_refinement(arguments, *config, options.record);
  serving::Server server(*policy, options, about);
  log_info("serving ", policy_options.checkpoint, " on ", options.address, ":", server.port(),
           options.record.empty() ? "" : concat(", recording into ", options.record),
           options.console.enabled ? "; /console in a browser shows it" : "");
  const int64_t requests = server.run();
  throw Interrupted(concat("stopped after ", requests, " requests"));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Serves a policy to robots: openpi's WebSocket protocol on every path, OpenVLA's REST protocol on "
      "/act. "
      "Records every episode with serve.record. Runs until SIGINT or SIGTERM.",
      "apo-serve");
  apps::ConfigArguments arguments;
  apps::add_config_options(app, arguments);
  apps::add_examples(
      app,
      {{"apo-serve --config tabletop --set policy.checkpoint=runs/base", "on 127.0.0.1:8000"},
       {"apo-serve --config tabletop --set policy.checkpoint=runs/base --set serve.record=served.hdf5",
        "records what clients do"},
       {"apo-serve --config robot.yaml --set serve.address=0.0.0.0 --set serve.token=$(openssl rand -hex 16)",
        "for other machines, which show the token"}});
  return apps::run_app(app, argc, argv, [&] { run_serve(arguments); });
}
