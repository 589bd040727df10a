// The loop that the library exists for: demonstrations -> SFT base -> rounds of deploy, label, refine,
// evaluate.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apo/deploy/collector.h"
#include "apo/deploy/evaluator.h"
#include "apo/deploy/intervention.h"
#include "apo/environments/environment.h"
#include "apo/loop/comparison.h"
#include "apo/training/options.h"
#include "apo/training/trainer.h"

namespace apo::config {
class Visitor;
}

namespace apo::loop {

using deploy::CollectionSummary;
using deploy::CollectOptions;
using deploy::DemonstrationOptions;
using deploy::DeployOptions;
using deploy::EvalOptions;
using deploy::EvalResult;
using deploy::InterventionOptions;
using deploy::Trial;

/// How the base policy is trained from the demonstrations (config section `refine.base`); what is not here is
/// as in the top-level sections.
struct BaseOptions {
  objective::ObjectiveOptions objective;
  training::OptimizerOptions optimizer;
  training::ScheduleOptions schedule;
  training::TrainOptions train;
  pictures::AugmentationOptions augmentation;
  void visit(config::Visitor& v);
};

/// What is different from some round on (an entry of config section `refine.later`), as
/// `{from_round: 2, set: ["deploy.intervention.scripted.patience_steps=28"]}`.
struct LaterOptions {
  int64_t from_round = 2;        ///< and in all rounds after it; of several entries, the last one wins
  std::vector<std::string> set;  ///< "key=value" as for --set, of the sections that `setup_of_round` names
  void visit(config::Visitor& v);
};

/// Config section `refine`.
struct RefineOptions {
  int64_t rounds = 1;  ///< deploy, label, refine, evaluate
  /// a refined policy is promoted if its success rate is not lower than the current policy's minus this
  double promotion_tolerance = 0;
  /// learn from the interactions of all rounds; false: of the last round only
  bool keep_interactions = true;
  int64_t animations = 3;  ///< trials drawn of each kind: newly solved ones, failures that remain
  std::vector<LaterOptions> later;
  BaseOptions base;
  ComparisonOptions comparison;
  RefineOptions();  ///< base.objective.type is sft
  void visit(config::Visitor& v);
};

/// Everything that the loop needs; the top-level config sections of `apo-refine`.
struct RefineSetup {
  training::TrainingOptions training;
  environments::EnvironmentOptions environment;
  DeployOptions deploy;
  EvalOptions eval;
  RefineOptions refine;
  void visit(config::Visitor& v);
};

/// The setup as `refine.later` makes it in this round. ConfigError naming refine.later[i].set[k] for what is
/// no key=value, no key, no value of that key, or not of deploy.intervention, deploy.collect, data.labels,
/// data.pools, objective, optimizer, schedule and train: policy, environment and evaluation stay the same in
/// all rounds.
RefineSetup setup_of_round(const RefineSetup& setup, int64_t round);

/// Why a refined policy took the place of the one in use, or did not.
struct Promotion {
  bool promoted = true;
  /// success of the refined policy (first) and of the one in use (second) on the same seeds
  PairedTest test{};
  double tolerance = 0;  ///< promoted: `test.difference` is at least minus this
};

/// One line of the result: round 0 is the base.
struct RoundResult {
  int64_t round = 0;
  std::string policy;   ///< checkpoint that was evaluated
  Promotion promotion;  ///< of round 0: promoted without a test
  EvalResult evaluation;
  CollectionSummary deployment;  ///< of the policy before this round; empty for round 0
};

struct RefineResult {
  std::vector<RoundResult> rounds;
  std::string policy;     ///< the promoted policy's checkpoint
  Comparison comparison;  ///< without results unless methods were compared
};

/// Runs the loop under `setup.training.run.dir`:
///   demonstrations.hdf5, base/ (a training run), base/evaluation/, round-N/{interactions.hdf5, training/,
///   evaluation/}, state.json (finished stages), summary.json (all numbers), policy (a link to the promoted
///   checkpoint).
/// Demonstrations: data.expert if given, otherwise recorded from the environment's expert. Base:
/// policy.checkpoint if given, otherwise trained.
/// A stopped loop goes on where it was with ExistingRun::resume: finished stages are kept, training resumes
/// bit-equal, an unfinished collection or evaluation starts anew from its own seed.
///
/// With refine.comparison.methods, rounds compare instead: the base is deployed once, every method learns
/// from these recordings (methods/NAME/round-1/{training,evaluation}) with the same seeds and numbers of
/// updates, and each refined policy, the base among them, is deployed on the same `episodes` seeds
/// (methods/NAME/round-1/deployment.hdf5, base/deployment-1.hdf5). In the second round each method goes on
/// from its own policy and learns from the first recordings and those of its own deployment. Nothing is
/// promoted: `policy` stays the base. Besides: comparison.json (every trial and episode), comparison.md
/// (tables), both rewritten after each method.
///
/// `config_yaml` is the resolved config as text. Resuming with another one is a ConfigError that names the
/// keys, but for a larger refine.rounds (finished rounds are kept, and the loop ends as one that had so many
/// rounds from the beginning), threads, logging, train.guard, reference.cache, and of a remote environment
/// url, token and timeouts.
/// ConfigError before anything runs where the sections of any training of the loop contradict each other.
RefineResult refine(const RefineSetup& setup, training::ExistingRun existing, const std::string& config_yaml);

}  // namespace apo::loop
