// How good is a policy: seeded trials in many environments in lock-step, with intervals and pictures.
//
//   deploy::EvalResult result = deploy::evaluate(*policy, environment_options, {.trials = 200});
//   std::cout << result.text();                                  // success 0.53 [0.46, 0.60] ...
//   deploy::write_results(result, environment_options, eval_options, "runs/tabletop/evaluation");
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/deploy/intervention.h"
#include "apo/environments/environment.h"
#include "apo/models/policy.h"
#include "apo/results/evaluation.h"

namespace apo::config {
class Visitor;
}

namespace apo::deploy {

/// Config section `eval`.
struct EvalOptions {
  int64_t trials = 200;   ///< episodes; more narrow the interval
  int64_t seed = 700000;  ///< trial i is reset with seed + i
  int64_t parallel = 50;  ///< environments in lock-step: one forward pass decides for all of them
  /// that step and draw the environments, in turns with the policy, whose forward pass has run.threads; 0:
  /// all cores
  int64_t threads = 0;
  int64_t max_steps = 0;         ///< of a trial; 0: the environment's
  double temperature = 0;        ///< of decoding; 0 is greedy
  int64_t animations = 0;        ///< pictures of the first so many trials
  int64_t animation_size = 192;  ///< their side in pixels
  bool decode = false;           ///< of scoring recorded steps: also what the policy itself decides there
  /// each tried on the same seeds; "all": every one that the environment offers
  std::vector<std::string> disruptions;
  void visit(config::Visitor& v);
};

using results::DisruptedResult;
using results::EvalResult;
using results::Trial;

/// Runs the trials. What happens in a trial depends on its seed and the policy's actions alone, not on
/// `parallel` or `threads`, at any temperature (a network may round differently in batches of different
/// sizes).
/// With `options.disruptions` the trials are run undisrupted first, whatever `environment.disruptions` says,
/// and then once with each disruption alone in every episode, of the magnitudes in `environment.disruptions`.
/// Errors  ConfigError: unknown environment or disruption. RunError naming trial and step: an action of a
///         wrong size or not finite. Interrupted: SIGINT or SIGTERM.
EvalResult evaluate(models::Policy& policy, const environments::EnvironmentOptions& environment,
                    const EvalOptions& options);

/// Whether the environment shows what the policy needs: one is made, reset with the first seed and looked at;
/// no step is made.
/// Errors  ConfigError: unknown environment. DataError: a missing camera or state. RunError: no answer.
void check_evaluation(const models::Policy& policy, const environments::EnvironmentOptions& environment,
                      const EvalOptions& options);

/// Writes directory/results.json (the result, both options as YAML), directory/trial-N.webp, and with
/// disruptions directory/disruptions.md and directory/DISRUPTION-trial-N.webp.
/// RunError naming the path if the directory cannot be made or written.
void write_results(const EvalResult& result, const environments::EnvironmentOptions& environment,
                   const EvalOptions& options, const std::filesystem::path& directory);

/// An animation of the environment's expert (or of doing nothing, where there is none) in the episode of
/// `seed`: tiles of `size` pixels, four a row, undisrupted first and then under each disruption. The episodes
/// last `steps` steps.
/// Errors as `evaluate`; RunError naming the path.
void draw_disruptions(const environments::EnvironmentOptions& environment,
                      const std::vector<std::string>& disruptions, uint64_t seed, int64_t size, int64_t steps,
                      const std::filesystem::path& path);

/// One episode with its pictures; with a human, borders tell who acts (blue policy, orange human).
struct RecordedTrial {
  Trial trial;
  int64_t take_overs = 0;
  std::vector<at::Tensor> frames;  ///< [Y, X, 3] uint8, before every step and after the last
};
/// Plays the episode of `seed`; `human` may be null. Time limits as in `collect` with 70 steps under a human.
RecordedTrial record_trial(models::Policy& policy, environments::Environment& environment, uint64_t seed,
                           int64_t size, InterventionSource* human = nullptr);

/// Writes one JSON object for every step of the trajectories at `path` (file, directory or glob; format and
/// instruction of `data`'s first source, its filters are not applied):
///   file, episode, timestep, log_prob, token_log_probs, target_tokens, predicted_tokens, predicted_action,
///   action, action_l1; of a policy that decides several steps at once, the two actions are lists of actions
/// and `malformed` where the predicted tokens are no whole code. Predictions are greedy and teacher-forced;
/// action_l1 is in normalised units. With `decode` also
///   decoded_tokens, decoded_action, decoded_malformed
/// what the policy decides there greedily, as it does when it is deployed: one more forward pass. Token ids
/// are the vocabulary's. Returns the number of lines. `output` appears whole or not at all. Errors: DataError
/// as data::Dataset; Interrupted.
int64_t score_dataset(models::Policy& policy, const std::string& path, const data::DataOptions& data,
                      int64_t batch_size, const std::filesystem::path& output, bool decode = false);

}  // namespace apo::deploy
