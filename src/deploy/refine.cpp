#include "apo/deploy/refine.h"

#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "base/provenance_json.h"
#include "deploy/comparing.h"
#include "deploy/examples.h"
#include "deploy/loop_state.h"
#include "deploy/stages.h"

namespace apo::deploy {
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
    rounds_.push_back(round_json(0, current_, true, base.trained, base.evaluation));
    result_.rounds.push_back(
        {.round = 0, .policy = current_, .promoted = true, .evaluation = base.evaluation, .deployment = {}});
    current_successes_ = base.evaluation.success;
    write_summary();
  }

  void add_round(int64_t round) {
    const std::string name = concat("round-", round);
    const fs::path dir = dir_ / name;
    const fs::path interactions = dir / "interactions.hdf5";
    CollectOptions collecting = setup_.deploy.collect;
    collecting.seed += deployment_seed(setup_.training.run.seed, round);
    const json deployed = stages_.deploy(name + "/deployment", current_, collecting, interactions);
    const CollectionSummary deployment = CollectionSummary::from_json(deployed.dump(), name + "/deployment");
    if (!setup_.refine.keep_interactions) interactions_.clear();
    interactions_.push_back(interactions.string());

    const json trained =
        stages_.refine(name + "/training", setup_.training, current_, interactions_, dir / "training");
    const std::string checkpoint = trained["checkpoint"].get<std::string>();
    const EvalResult evaluation = stages_.evaluate(name, checkpoint, dir / "evaluation");
    const bool promoted = evaluation.success.rate >= current_successes_.rate - setup_.refine.promotion_tolerance;
    if (promoted) {
      current_ = checkpoint;
      current_successes_ = evaluation.success;
    } else {
      log_warn(name, ": success ", evaluation.success.rate, " is below the current policy's ", current_successes_.rate,
               ": not promoted, ", current_, " stays deployed");
    }
    json entry = round_json(round, checkpoint, promoted, trained, evaluation);
    entry["deployment"] = deployed;
    rounds_.push_back(entry);
    result_.rounds.push_back({.round = round,
                              .policy = checkpoint,
                              .promoted = promoted,
                              .evaluation = evaluation,
                              .deployment = deployment});
    write_summary();
  }

  json round_json(int64_t round, const std::string& policy, bool promoted, const json& trained,
                  const EvalResult& evaluation) const {
    json entry = {{"round", round}, {"policy", stages_.relative(policy)}, {"promoted", promoted}, {"deployment", nullptr}};
    if (!trained.is_null()) {
      entry["training"] = trained["directory"];
      entry["objective"] = trained["objective"];
      entry["train_seconds"] = trained["seconds"];
      if (trained.contains("labels")) entry["labels"] = trained["labels"];
    }
    entry["evaluation"] = evaluation_json(evaluation);
    return entry;
  }

  // of the policy in use at the end: a loop that goes on for more rounds draws them anew
  void animate() {
    if (result_.rounds.size() < 2 || setup_.refine.animations == 0) return;
    animations_ = stages_.state().run(concat("animations/", setup_.refine.rounds), [&]() -> json {
      fs::remove_all(dir_ / "animations");
      return draw_examples(stages_, result_.rounds.front(), promoted());
    });
  }

  const RoundResult& promoted() const {
    for (auto it = result_.rounds.rbegin(); it != result_.rounds.rend(); ++it)
      if (it->policy == current_) return *it;
    return result_.rounds.front();
  }

  void write_summary() const {
    const json summary = {{"command", provenance().command},
                          {"provenance", provenance_json()},
                          {"config", config_yaml_},
                          {"seed", setup_.training.run.seed},
                          {"seconds", stages_.state().seconds()},
                          {"environment", setup_.environment.type},
                          {"rounds", rounds_},
                          {"animations", animations_}};
    write_file_atomic(dir_ / "summary.json", summary.dump(1));
  }

  const RefineSetup& setup_;
  std::string config_yaml_;
  fs::path dir_;
  Stages stages_;
  std::vector<std::string> interactions_;
  std::string current_;       // checkpoint of the promoted policy
  Rate current_successes_;
  json rounds_ = json::array(), animations_ = json::array();
  RefineResult result_;
};

// Everything that can be known to be wrong before hours have passed.
void check_setup(const RefineSetup& setup) {
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
            "train.max_steps: the methods of refine.comparison get the same number of updates; expected a positive number, "
            "found 0 (train.epochs would follow the size of each method's pools)");
  for (size_t i = 0; i < comparison.methods.size(); ++i) {
    const MethodOptions& method = comparison.methods[i];
    const std::string where = concat("refine.comparison.methods[", i, "] (", method.name, "): ");
    checked(where, training_of(method, setup.training));
    APO_CHECK(ConfigError, method.interactions || (method.pools.intervention == 0 && method.pools.undesirable == 0), where,
              "interactions: false leaves the expert data alone; expected pools.intervention and pools.undesirable 0, found ",
              method.pools.intervention, " and ", method.pools.undesirable);
  }
}

// What a loop writes into its directory, and nothing else: the state first, since it vouches for the rest.
void remove_loop(const fs::path& dir) {
  std::vector<fs::path> mine = {dir / "state.json",  dir / "config.yaml", dir / "summary.json", dir / "report.html",
                                dir / "policy",      dir / "base",        dir / "animations",   dir / "demonstrations.hdf5",
                                dir / "demonstrations.hdf5.json", dir / "methods", dir / "comparison.json",
                                dir / "comparison.md"};
  for (const auto& entry : fs::directory_iterator(dir))
    if (entry.path().filename().string().starts_with("round-")) mine.push_back(entry.path());
  for (const fs::path& path : mine) fs::remove_all(path);
}

// A stopped loop goes on with the config that it was begun with; of any number of rounds with more of them; faster or
// slower, and more or less talkative.
void check_resumed_config(const fs::path& config, const RefineSetup& setup) {
  const auto before = config::load<RefineSetup>(config::Document::from_file(config));
  RefineSetup allowed = before;
  if (setup.refine.rounds > before.refine.rounds) allowed.refine.rounds = setup.refine.rounds;
  allowed.training.run.threads = setup.training.run.threads;
  allowed.eval.threads = setup.eval.threads;
  allowed.training.logging = setup.training.logging;
  std::string differences;
  for (const std::string& difference : config::differences(allowed, setup))
    differences += concat(differences.empty() ? "" : ", ", difference);
  APO_CHECK(ConfigError, differences.empty(), config.string(),
            ": the loop in this directory was begun with another config (", differences,
            "); only refine.rounds may grow, and threads and logging may change: expected the same, --overwrite or another "
            "run.dir");
}

// Decides what happens to a directory that is already used; afterwards config.yaml lies in it.
void open_directory(const fs::path& dir, ExistingRun existing, const RefineSetup& setup, const std::string& config_yaml) {
  const fs::path config = dir / "config.yaml";
  const bool is_loop = fs::exists(dir / "state.json");
  if (is_loop || fs::exists(config)) {
    APO_CHECK(ConfigError, existing != ExistingRun::refuse, dir.string(),
              ": run.dir is already used; expected an empty directory, --resume or --overwrite");
    if (existing == ExistingRun::overwrite) {
      APO_CHECK(ConfigError, is_loop, dir.string(),
                ": --overwrite: expected the directory of an earlier loop (with a state.json), found other files");
      remove_loop(dir);
    } else if (fs::exists(config)) {
      check_resumed_config(config, setup);
      write_file_atomic(config, with_provenance(config_yaml, read_file(config)));
      return;
    }
  }
  write_file_atomic(config, with_provenance(config_yaml));
  LoopState::create(dir);
}

}  // namespace

RefineOptions::RefineOptions() {
  base.objective.type = objective::ObjectiveType::sft;
  base.train.batch_size = 32;
}

void DeployOptions::visit(config::Visitor& v) {
  v("intervention", intervention, "who may take over");
  v("collect", collect, "when a deployment ends and what is recorded");
  v("demonstrations", demonstrations, "the expert's demonstrations");
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
  v("keep_interactions", keep_interactions, "learn from all rounds' interactions; false: from the last round's only");
  v("animations", animations, "trials drawn of each kind, newly solved ones and failures that remain; 0: none", config::at_least(0));
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
  make_environment(setup.environment);
  open_directory(dir, existing, setup, config_yaml);
  if (!setup.refine.comparison.methods.empty()) return compare(setup, config_yaml);
  return Loop(setup, config_yaml).run();
}

}  // namespace apo::deploy
