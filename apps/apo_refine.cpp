// apo-refine: the whole loop, round after round.
#include <iomanip>
#include <iostream>

#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "apo/config/options.h"
#include "apo/report/report.h"
#include "apo/serving/browser.h"
#include "app_main.h"

namespace {

using namespace apo;

// "52% [45, 59]"
std::string in_percent(const Rate& rate) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(0) << 100 * rate.rate << "% [" << 100 * rate.low << ", "
       << 100 * rate.high << "]";
  return text.str();
}

// The last line: success before and after.
std::string what_happened(const loop::RefineResult& result) {
  const loop::RoundResult& base = result.rounds.front();
  const std::string before = in_percent(base.evaluation.success);
  if (result.rounds.size() == 1) return concat("success  ", before, " of the base, not refined");
  const loop::RoundResult* in_use = &base;
  for (const auto& round : result.rounds)
    if (round.promotion.promoted) in_use = &round;
  if (in_use == &base)
    return concat("success  ", before, ", and no refined policy was better: the base stays in use");
  return concat("success  ", before, " before, ", in_percent(in_use->evaluation.success), " after (",
                base.evaluation.success.total, " trials, 95% intervals)");
}

void print_rounds(const loop::RefineResult& result, const std::string& dir) {
  std::cout << "\nround  success              unaided  take-overs in deployment        policy\n";
  for (const auto& round : result.rounds) {
    const auto& success = round.evaluation.success;
    std::ostringstream interval;
    interval << std::fixed << std::setprecision(2) << success.rate << " [" << success.low << ", "
             << success.high << "]";
    std::ostringstream take_overs;
    if (round.round > 0)
      take_overs << round.deployment.take_overs << " in " << round.deployment.episodes << " episodes";
    else
      take_overs << "-";
    std::cout << std::left << std::setw(7) << (round.round == 0 ? "base" : std::to_string(round.round))
              << std::setw(21) << interval.str() << std::setw(9) << std::fixed << std::setprecision(2)
              << round.evaluation.unaided.rate << std::setw(32) << take_overs.str()
              << (round.promotion.promoted ? "promoted" : "not promoted") << "\n";
  }
  std::cout << "\npolicy   " << result.policy << "\nnumbers  " << dir << "/summary.json\n"
            << what_happened(result) << "; open " << dir << "/report.html\n";
}

void print_comparison(const loop::RefineResult& result, const std::string& dir) {
  const std::string name = dir + "/comparison.json";
  std::cout << "\n"
            << loop::comparison_markdown({&result.comparison, 1}, {&name, 1}) << "\nnumbers  " << dir
            << "/comparison.json\ntables   " << dir << "/comparison.md\nopen     " << dir << "/report.html\n";
}

struct RefineArguments {
  apps::ConfigArguments config;
  apps::ExistingRunArguments existing;
  std::vector<std::string> merge;
  std::string output;
};

void merge(const RefineArguments& arguments) {
  if (!arguments.output.empty())
    check_output("--output", arguments.output,
                 text_beginning("the tables of an earlier --merge", "## After "));
  const std::string tables = loop::merge_comparisons(arguments.merge);
  if (arguments.output.empty())
    std::cout << tables;
  else
    write_file_atomic(arguments.output, tables);
}

void run_refine(const RefineArguments& arguments) {
  if (!arguments.merge.empty()) return merge(arguments);
  const auto config = apps::read_config(arguments.config);
  if (!config) return;
  const data::DataOptions& data = config->training.data;
  serving::register_browser_human(config->serve, {.labels = data.labels, .filter = data.filter});
  const std::string& dir = config->training.run.dir;
  const auto result =
      loop::refine(*config, arguments.existing.value(), config::print(loop::RefineSetup(*config)));
  try {
    report::write_loop_report(dir);
  } catch (const std::exception& error) {  // the loop itself is done
    log_warn("no report.html: ", error.what());
  }
  result.comparison.results.empty() ? print_rounds(result, dir) : print_comparison(result, dir);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Runs the refinement loop: demonstrations -> SFT base -> rounds of deployment with take-overs, "
      "labelling, refinement and evaluation. A refined policy is promoted only if it is not worse. With "
      "refine.comparison.methods, several objectives are compared on the same corrections.",
      "apo-refine");
  RefineArguments arguments;
  apps::add_config_options(app, arguments.config);
  apps::add_existing_run_options(app, arguments.existing);
  auto* merge =
      app.add_option("--merge", arguments.merge,
                     "instead of running: print the tables of several comparisons as one, e.g. of several "
                     "freshly trained bases")
          ->type_name("DIR");
  app.add_option("--output", arguments.output, "with --merge: write the tables to this file")
      ->type_name("FILE")
      ->needs(merge);
  apps::add_examples(
      app,
      {{"apo-refine --config tabletop", "the whole loop in the embedded simulator"},
       {"apo-refine --config tabletop --set deploy.intervention.type=browser",
        "the same, and you are the human, at http://127.0.0.1:8000/console"},
       {"apo-refine --config tabletop --set refine.rounds=2 --resume", "one more round of a finished loop"},
       {"apo-refine --merge runs/comparison-1 --merge runs/comparison-2", "one table of two comparisons"}});
  return apps::run_app(app, argc, argv, [&] { run_refine(arguments); });
}
