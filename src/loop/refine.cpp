#include "apo/loop/refine.h"

#include <torch/types.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "loop/comparing.h"
#include "loop/examples.h"
#include "loop/loop_state.h"
#include "loop/promotion.h"
#include "loop/resume.h"
#include "loop/rounds.h"
#include "loop/stages.h"
#include "results/file_names.h"

namespace apo::loop {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using training::ExistingRun;

class Loop {
 public:
  Loop(const RefineSetup& setup, std::string config_yaml)
      : setup_(setup), config_yaml_(std::move(config_yaml)), dir_(setup.training.run.dir), stages_(setup) {}

  RefineResult run() {
    stages_.demonstrate();
    add_base();
    for (int64_t round = 1; round <= setup_.refine.rounds; ++round) add_round(round);
    animate();
    write_summary();
    stages_.link_policy(current_);
    result_.policy = current_;
    return result_;
  }

 private:
  // round 0: the policy that is deployed first
  void add_base() {
    const Stages::Base base = stages_.base();
    current_ = base.checkpoint;
    rounds_.emplace_back(stages_.policy_summary(current_, base.trained, base.evaluation));
    result_.rounds.push_back(
        {.round = 0, .policy = current_, .promotion = {}, .evaluation = base.evaluation, .deployment = {}});
    in_use_ = base.evaluation;
    write_summary();
  }

  void add_round(int64_t round) {
    const std::string name = concat("round-", round);
    const fs::path dir = dir_ / name;
    const fs::path interactions = dir / "interactions.hdf5";
    const RefineSetup now = setup_of_round(setup_, round);
    CollectOptions collecting = now.deploy.collect;
    collecting.seed += deployment_seed(setup_.training.run.seed, round);
    const CollectionSummary deployment =
        stages_.deploy(name + "/deployment", current_, now.deploy.intervention, collecting, interactions);
    if (!setup_.refine.keep_interactions) interactions_.clear();
    interactions_.push_back(interactions.string());

    const json trained =
        stages_.refine(name + "/training", now.training, current_, interactions_, dir / "training");
    const std::string checkpoint = stages_.checkpoint_of(trained);
    const EvalResult evaluation = stages_.evaluate(name, checkpoint, dir / "evaluation");
    const Promotion promotion = judge_promotion(evaluation, in_use_, setup_.refine.promotion_tolerance);
    if (promotion.promoted) {
      log_info(name, ": promoted, ", promotion_text(promotion));
      current_ = checkpoint;
      in_use_ = evaluation;
    } else {
      log_warn(name, ": not promoted, ", promotion_text(promotion), "; ", current_, " stays deployed");
    }
    results::Round& entry = rounds_.emplace_back(stages_.policy_summary(checkpoint, trained, evaluation));
    entry.round = round;
    entry.promoted = promotion.promoted;
    entry.promotion = results::PromotionTest{promotion.test, promotion.tolerance};
    entry.deployment = deployment;
    result_.rounds.push_back({.round = round,
                              .policy = checkpoint,
                              .promotion = promotion,
                              .evaluation = evaluation,
                              .deployment = deployment});
    write_summary();
  }

  // of the policy in use at the end: a loop that goes on for more rounds draws them anew
  void animate() {
    if (result_.rounds.size() < 2 || setup_.refine.animations == 0) return;
    const std::string stage = concat("animations/", setup_.refine.rounds);
    const json drawn = stages_.state().run(stage, {"animations/"}, [&]() -> json {
      stages_.state().clear("animations");
      return results::to_json(draw_examples(stages_, result_.rounds.front(), promoted()));
    });
    animations_ = results::read_animations({&drawn, (dir_ / results::kStateFile).string(), stage});
  }

  const RoundResult& promoted() const {
    for (auto it = result_.rounds.rbegin(); it != result_.rounds.rend(); ++it)
      if (it->policy == current_) return *it;
    return result_.rounds.front();
  }

  void write_summary() const {
    results::Summary summary = stages_.summary(config_yaml_);
    summary.rounds = rounds_;
    summary.animations = animations_;
    write_file_atomic(dir_ / results::kSummaryFile, summary.json());
  }

  const RefineSetup& setup_;
  std::string config_yaml_;
  fs::path dir_;
  Stages stages_;
  std::vector<std::string> interactions_;
  std::string current_;  // checkpoint of the promoted policy
  EvalResult in_use_;    // its evaluation
  std::vector<results::Round> rounds_;
  std::vector<results::Animation> animations_;
  RefineResult result_;
};

// One setup: the config's, or that of a later round.
void check_sections(const RefineSetup& setup) {
  const auto checked = [](const std::string& where, const training::TrainingOptions& options) {
    try {
      training::check(options);
    } catch (const ConfigError& error) {
      throw ConfigError(where + error.what());
    }
  };
  if (setup.training.policy.checkpoint.empty()) checked("refine.base: ", base_training(setup));
  const ComparisonOptions& comparison = setup.refine.comparison;
  check(comparison);
  if (comparison.methods.empty()) return checked("", setup.training);
  APO_CHECK(ConfigError, setup.training.train.max_steps > 0,
            "train.max_steps: the methods of refine.comparison get the same number of updates; expected a "
            "positive number, found 0 (train.epochs would follow the size of each method's pools)");
  for (size_t i = 0; i < comparison.methods.size(); ++i) {
    const MethodOptions& method = comparison.methods[i];
    const std::string where = concat("refine.comparison.methods[", i, "] (", method.name, "): ");
    checked(where, training_of(method, setup.training));
    APO_CHECK(ConfigError,
              method.interactions || (method.pools.intervention == 0 && method.pools.undesirable == 0), where,
              "interactions: false leaves the expert data alone; expected pools.intervention and "
              "pools.undesirable 0, found ",
              method.pools.intervention, " and ", method.pools.undesirable);
  }
}

// Whether "key=value" sets `key`, something in it or all around it.
bool sets(std::string_view text, std::string_view key) {
  const std::string_view found = text.substr(0, text.find('='));
  return is_within(found, key) || is_within(key, found);
}

// What a later round sets and a comparison has of its own would change nothing.
void check_later_of_methods(const RefineSetup& setup, size_t i) {
  const std::vector<MethodOptions>& methods = setup.refine.comparison.methods;
  const auto any = [&](auto has) { return std::ranges::any_of(methods, has); };
  std::vector<std::pair<std::string_view, std::string_view>> own{
      {"objective", "each method of refine.comparison.methods has its own"},
      {"data.pools", "each method of refine.comparison.methods has its own"},
      {"deploy.collect.episodes", "later deployments of a comparison are refine.comparison.episodes long"},
      {"deploy.collect.take_overs",
       "later deployments of a comparison end with refine.comparison.take_overs"}};
  if (any([](const MethodOptions& method) { return method.learning_rate.has_value(); }))
    own.emplace_back("optimizer.learning_rate", "a method of refine.comparison.methods has its own");
  if (any([](const MethodOptions& method) { return method.batch_size.has_value(); }))
    own.emplace_back("train.batch_size", "a method of refine.comparison.methods has its own");
  const LaterOptions& later = setup.refine.later[i];
  for (size_t j = 0; j < later.set.size(); ++j)
    for (const auto& [key, why] : own)
      APO_CHECK(ConfigError, !sets(later.set[j], key), "refine.later[", i, "].set[", j, "]: ", why,
                "; found ", later.set[j]);
}

// Everything that can be known to be wrong before hours have passed.
void check_setup(const RefineSetup& setup) {
  check_sections(setup_of_round(setup, 1));
  for (size_t i = 0; i < setup.refine.later.size(); ++i) {
    try {
      check_sections(setup_of_round(setup, setup.refine.later[i].from_round));
    } catch (const ConfigError& error) {
      const std::string what = error.what(), where = concat("refine.later[", i, "]");
      throw ConfigError(what.starts_with(where) ? what : concat(where, ": ", what));
    }
    if (!setup.refine.comparison.methods.empty()) check_later_of_methods(setup, i);
  }
}

}  // namespace

RefineOptions::RefineOptions() {
  base.objective.type = objective::ObjectiveType::sft;
  base.train.batch_size = 32;
}

void BaseOptions::visit(config::Visitor& v) {
  v("objective", objective, "as the top-level section; sft by default");
  v("optimizer", optimizer, "as the top-level section");
  v("schedule", schedule, "as the top-level section");
  v("train", train, "as the top-level section");
  v("augmentation", augmentation, "as data.augmentation");
}

void RefineOptions::visit(config::Visitor& v) {
  v("rounds", rounds, "rounds of deploy, label, refine, evaluate", config::at_least(0));
  v("promotion_tolerance", promotion_tolerance,
    "a refined policy is promoted if its success rate is not lower than the current policy's minus this",
    config::between(0, 1));
  v("keep_interactions", keep_interactions,
    "learn from all rounds' interactions; false: from the last round's only");
  v("animations", animations,
    "trials drawn of each kind, newly solved ones and failures that remain; 0: none", config::at_least(0));
  v("later", later, "what is different from some round on");
  v("base", base, "how the base policy is trained from the demonstrations");
  v("comparison", comparison, "methods side by side on the same corrections");
}

void RefineSetup::visit(config::Visitor& v) {
  training.visit(v);
  v("environment", environment, "the world that a policy is deployed and evaluated in");
  v("deploy", deploy, "deployment under a human's eyes, and demonstrations");
  v("eval", eval, "seeded trials in the environment");
  v("refine", refine, "rounds of deploy, label, refine, evaluate");
}

RefineResult refine(const RefineSetup& setup, ExistingRun existing, const std::string& config_yaml) {
  const fs::path dir = setup.training.run.dir;
  APO_CHECK(ConfigError, !dir.empty(), "run.dir: expected a directory to write to, found nothing");
  const DirectoryLock lock(dir);
  check_setup(setup);
  // what this machine lacks is told before the directory belongs to this config
  select_device(setup.training.run.device);
  environments::make_environment(setup.environment);
  open_directory(dir, existing, setup, config_yaml);
  if (!setup.refine.comparison.methods.empty()) return compare(setup, config_yaml);
  return Loop(setup, config_yaml).run();
}

}  // namespace apo::loop
