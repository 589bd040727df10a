// apo-eval: seeded trials of a policy in the environment, or its log-probabilities on recorded steps.
#include <iostream>

#include "apo/base/device.h"
#include "apo/base/files.h"
#include "apo/base/finishing.h"
#include "apo/base/output.h"
#include "apo/deploy/outputs.h"
#include "apo/models/registry.h"
#include "apo/training/policy_data.h"
#include "app_main.h"

namespace {

using namespace apo;

struct EvalArguments {
  apps::ConfigArguments config;
  std::string dataset;
  std::string output;
  std::string disruptions;
  std::string sheet;
  std::vector<std::string> merge;
};

// NAME=DIR of each
void merge(const EvalArguments& arguments) {
  std::vector<std::pair<std::string, std::string>> named;
  for (const std::string& text : arguments.merge) {
    const size_t equals = text.find('=');
    APO_CHECK(ConfigError, equals != std::string::npos && equals > 0 && equals + 1 < text.size(),
              "--merge: expected NAME=DIR, found '", text, "'");
    named.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  if (!arguments.output.empty())
    check_output("--output", arguments.output,
                 text_beginning("the table of an earlier --merge", "| disruption |"));
  const std::string table = loop::merge_evaluations(named);
  if (arguments.output.empty())
    std::cout << table;
  else
    write_file_atomic(arguments.output, table);
}

constexpr int64_t kTilePixels = 128, kSheetSteps = 30;

// Of an interrupted evaluation, what is finished is shown and kept.
deploy::EvalResult evaluate(models::Policy& policy, const RunConfig& config, const std::string& directory) {
  try {
    return deploy::evaluate(policy, config.environment, config.eval);
  } catch (const deploy::InterruptedEvaluation& error) {
    const Finishing finishing("the results so far");
    const int64_t trials = error.finished.success.total;
    if (trials == 0) throw;
    const std::string file = directory + "/interrupted.json";
    std::cout << error.finished.text() << "interrupted: these are the first " << trials << " of "
              << config.eval.trials << " trials, in " << file << "\n"
              << std::flush;
    write_file_atomic(file, error.finished.json());
    throw;
  }
}

void run_eval(EvalArguments arguments) {
  if (!arguments.merge.empty()) return merge(arguments);
  if (!arguments.disruptions.empty())
    arguments.config.overrides.push_back("eval.disruptions=[" + arguments.disruptions + "]");
  const auto config = apps::read_config(arguments.config);
  if (!config) return;
  const std::string directory =
      arguments.output.empty() ? config->training.run.dir + "/evaluation" : arguments.output;
  const bool scores = !arguments.dataset.empty();
  APO_CHECK(ConfigError, !scores || !arguments.output.empty(), "--dataset needs --output FILE");
  APO_CHECK(
      ConfigError,
      scores || !arguments.sheet.empty() || !arguments.output.empty() || !config->training.run.dir.empty(),
      "--output DIR, or run.dir in the config, is required: where results.json is written");
  // what cannot be written is told before the work begins
  if (!arguments.sheet.empty()) {
    APO_CHECK(ConfigError, std::filesystem::path(arguments.sheet).extension() == ".webp",
              "--sheet: ", arguments.sheet, ": expected a name that ends in .webp");
    check_output("--sheet", arguments.sheet, webp_picture());
  } else if (scores)
    check_output("--output", arguments.output, json_lines("the scores of an earlier run", "log_prob"));
  else if (!config->training.policy.checkpoint.empty())
    deploy::check_results_directory(directory);
  if (!arguments.sheet.empty()) {
    const std::vector<std::string> all = {"all"};
    const auto& chosen = config->eval.disruptions.empty() ? all : config->eval.disruptions;
    deploy::draw_disruptions(config->environment, chosen, static_cast<uint64_t>(config->eval.seed),
                             kTilePixels, kSheetSteps, arguments.sheet);
    std::cout << "sheet " << arguments.sheet << ": none";
    for (const std::string& name : environments::chosen_disruptions(config->environment, chosen))
      std::cout << ", " << name;
    std::cout << "\n";
    return;
  }
  APO_CHECK(ConfigError, !config->training.policy.checkpoint.empty(), arguments.config.config,
            ": policy.checkpoint: expected the policy to evaluate, found nothing");
  const auto policy = models::make_policy(config->training.policy, nullptr, config->training.run.seed,
                                          select_device(config->training.run.device));
  if (scores) {
    data::DataOptions data = config->training.data;
    data.policy_cameras = training::policy_inputs(config->training.policy).cameras;
    deploy::score_dataset(*policy, arguments.dataset, data, config->training.train.batch_size,
                          arguments.output, config->eval.decode);
    std::cout << "scores " << arguments.output << "\n";
    return;
  }
  const deploy::EvalResult result = evaluate(*policy, *config, directory);
  std::cout << result.text() << std::flush;  // before the files: a full disk loses no number
  deploy::write_results(result, config->environment, config->eval, directory);
  std::cout << "results " << directory << "/results.json\n";
  if (!result.disruptions.empty()) std::cout << "table   " << directory << "/disruptions.md\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Evaluates policy.checkpoint: seeded trials in the environment (success with Wilson intervals, "
      "results.json, animations; with --disruptions a table), or with --dataset the log-probability of every "
      "recorded step.",
      "apo-eval");
  EvalArguments arguments;
  apps::add_config_options(app, arguments.config);
  auto* dataset =
      app.add_option("--dataset", arguments.dataset, "score this HDF5 file, directory or glob instead")
          ->type_name("PATH");
  app.add_option("--output", arguments.output,
                 "directory for results.json (default run.dir/evaluation); with --dataset the JSON lines "
                 "file, with --merge the table's")
      ->type_name("PATH");
  auto* disruptions = app.add_option("--disruptions", arguments.disruptions,
                                     "names separated by commas, or all: the same trials under each of "
                                     "environment.disruptions, as a table (eval.disruptions)")
                          ->type_name("LIST");
  auto* merge = app.add_option("--merge", arguments.merge,
                               "instead of evaluating: print the results of several evaluations as one "
                               "table, e.g. of several policies under disruptions; directories of one name "
                               "are bases of one policy")
                    ->type_name("NAME=DIR");
  app.add_option("--sheet", arguments.sheet,
                 "draw an animation of what the disruptions look like, and evaluate nothing")
      ->type_name("FILE.webp")
      ->excludes(merge);
  merge->excludes(dataset)->excludes(disruptions);
  apps::add_examples(
      app, {{"apo-eval --config tabletop --set policy.checkpoint=runs/tabletop/policy --set eval.trials=500",
             "success in 500 trials"},
            {"apo-eval --config tabletop --set policy.checkpoint=runs/tabletop/policy --disruptions all",
             "and under each disruption, as a table"},
            {"apo-eval --config tabletop --set policy.checkpoint=runs/tabletop/policy --dataset demos.hdf5 "
             "--output scores.jsonl",
             "log-probabilities of recorded steps"},
            {"apo-eval --merge base=runs/a/evaluation --merge apo=runs/b/evaluation",
             "one table of two evaluations"}});
  return apps::run_app(app, argc, argv, [&] { run_eval(arguments); });
}
