// The stages that every refinement loop is made of: demonstrations, base, deployment, training, evaluation.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apo/loop/refine.h"
#include "apo/models/policy.h"
#include "loop/loop_state.h"
#include "results/summary.h"

namespace apo::loop {

/// Seed of the first episode of a deployment: far from those of evaluation and demonstrations, apart for each
/// round of each loop for five rounds; the sixth of a run.seed has the seeds of the first of the next
/// run.seed.
int64_t deployment_seed(int64_t seed, int64_t round);
/// What refine.base trains with: the top-level sections but for its own. The demonstrations are not in it.
training::TrainingOptions base_training(const RefineSetup& setup);

/// Runs stages in a loop's directory. Each is run once: what is finished is kept when a stopped loop goes on.
class Stages {
 public:
  explicit Stages(const RefineSetup& setup);

  const RefineSetup& setup() const { return setup_; }
  const std::filesystem::path& dir() const { return dir_; }
  LoopState& state() { return state_; }
  const LoopState& state() const { return state_; }
  /// The path as the summary names it: relative to the loop's directory.
  std::string relative(const std::filesystem::path& path) const;
  std::unique_ptr<models::Policy> load(const std::string& checkpoint) const;
  /// Where the checkpoint of a finished training lies, wherever the loop's directory was when it was trained.
  std::string checkpoint_of(const nlohmann::json& trained) const;

  /// Expert data: what the config names, or demonstrations recorded here. Before any training.
  void demonstrate();
  /// The policy that is deployed first.
  struct Base {
    std::string checkpoint;
    nlohmann::json trained = nullptr;  ///< as `train`; null if the config gave the checkpoint
    EvalResult evaluation;
  };
  Base base();
  /// Deploys and records.
  CollectionSummary deploy(const std::string& stage, const std::string& checkpoint,
                           const InterventionOptions& intervention, const CollectOptions& options,
                           const std::filesystem::path& output);
  /// Refines `checkpoint` as `options` say, on the expert data and these recordings, without the pools that
  /// they leave empty: a policy that was never taken over, or only for mere time, gives no corrections or no
  /// undesirable steps, and the loop goes on without. Returns checkpoint,
  /// objective, directory, steps, seconds and labels (steps by label and reason).
  nlohmann::json refine(const std::string& stage, training::TrainingOptions options,
                        const std::string& checkpoint, const std::vector<std::string>& recordings,
                        const std::filesystem::path& dir);
  /// dir/policy -> this checkpoint
  void link_policy(const std::string& checkpoint) const;
  EvalResult evaluate(const std::string& stage, const std::string& checkpoint,
                      const std::filesystem::path& dir);
  /// What summary.json says of the loop, rounds and methods to be added.
  results::Summary summary(const std::string& config_yaml) const;
  /// And of a policy, without its deployment; `trained` as `Base`.
  results::PolicySummary policy_summary(const std::string& policy, const nlohmann::json& trained,
                                        const EvalResult& evaluation) const;

 private:
  nlohmann::json train(training::TrainingOptions options, const std::filesystem::path& dir);

  const RefineSetup& setup_;
  std::filesystem::path dir_;
  at::Device device_;
  config::GripperOptions gripper_;  // what the recordings code, as the environment or the config says
  LoopState state_;
  std::vector<data::SourceOptions> expert_;
};

}  // namespace apo::loop
