// Recording into HDF5: a policy deployed under a human's eyes, or demonstrations by the environment's expert.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "apo/deploy/intervention.h"
#include "apo/environments/environment.h"
#include "apo/models/policy.h"
#include "apo/results/collection.h"

namespace apo::config {
class Visitor;
}

namespace apo::deploy {

/// What to do when the output file exists.
enum class ExistingFile { refuse, append, overwrite };
std::span<const std::pair<ExistingFile, std::string_view>> enum_names(ExistingFile);

/// Config section `deploy.collect`.
struct CollectOptions {
  int64_t take_overs = 30;                ///< stop after so many; 0: only `episodes` count
  int64_t episodes = 180;                 ///< stop after so many episodes, whatever happened
  int64_t max_steps_with_human = 70;      ///< of an episode once a human took over; before: environment's
  int64_t max_steps_after_hand_back = 0;  ///< of the policy after the human's last one; 0: any number
  int64_t seed = 0;                       ///< episode i is reset with seed + i
  bool record_policy_action = true;       ///< keep what the policy wanted while the human acted
  bool drop_failed = false;               ///< do not record episodes that did not succeed
  double temperature = 0;                 ///< of the policy's decoding; 0 is greedy
  int64_t animations = 0;        ///< WebP pictures of the first so many corrected episodes, beside the output
  int64_t animation_size = 192;  ///< their side in pixels
  ExistingFile existing = ExistingFile::refuse;
  void visit(config::Visitor& v);
};

using results::CollectionSummary;

/// Deploys `policy` in `environment` until `take_overs` or `episodes` is reached, and records every step to
/// `output` (data::TrajectoryWriter: each finished episode is readable whatever happens to the process). The
/// summary is kept in `output` + ".json" and rewritten after every episode.
///
/// The policy is asked in every step, also while the human acts. Steps carry their source and, under a human,
/// the policy's action; the reward is 1 in the step that achieves the task; the outcome is the environment's
/// or "timeout". With ExistingFile::append, the file's episodes count and the next seed follows the last one.
///
/// An episode that is lost (environments::EpisodeLost) is played again from its seed. Where that repeats it
/// (EnvironmentSpec::repeatable, InterventionSource::repeatable), nothing of the lost one is kept, since each
/// of its steps would be recorded twice; elsewhere it is recorded up to its last step, with outcome
/// "interrupted" and without a success.
///
/// Errors  ConfigError: output exists and may not be touched. RunError: its directory cannot be made; naming
///         episode and step, an episode that is lost again and again, a policy's or human's action of a wrong
///         size or not finite. Interrupted: SIGINT or SIGTERM; finished episodes are saved, the running one
///         is discarded.
CollectionSummary collect(environments::Environment& environment, models::Policy& policy,
                          InterventionSource& human, const CollectOptions& options,
                          const std::filesystem::path& output);

/// Config section `deploy.demonstrations`.
struct DemonstrationOptions {
  int64_t episodes = 300;        ///< successful ones to record
  int64_t max_steps = 60;        ///< an attempt that takes longer is dropped
  int64_t seed = 0;              ///< attempt i is reset with seed + i
  double action_noise = 0.2;     ///< standard deviation added to what is executed, not to what is recorded
  int64_t noise_dimensions = 3;  ///< the first so many action dimensions get noise
  ExistingFile existing = ExistingFile::refuse;
  void visit(config::Visitor& v);
};

/// Records the environment's expert. What is executed carries noise, what is recorded is the clean action
/// (Laskey et al. 2017, DART), so that a learner sees how to return from small errors. Only successes are
/// kept, as source expert.
/// Errors as `collect`; RunError if the environment has no expert, or if more than 9 of 10 attempts fail.
CollectionSummary collect_demonstrations(environments::Environment& environment,
                                         const DemonstrationOptions& options,
                                         const std::filesystem::path& output);
/// The same in an environment made for it (EnvironmentOptions::demonstrating), as the other should be, too.
CollectionSummary collect_demonstrations(const environments::EnvironmentOptions& environment,
                                         const DemonstrationOptions& options,
                                         const std::filesystem::path& output);

/// Config section `deploy`: how a policy is deployed under a human's eyes.
struct DeployOptions {
  InterventionOptions intervention;
  CollectOptions collect;
  DemonstrationOptions demonstrations;
  void visit(config::Visitor& v);
};

}  // namespace apo::deploy
