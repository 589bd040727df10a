#include <torch/types.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/base/random.h"
#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/collector.h"
#include "apo/environments/playback.h"
#include "base/stopwatch.h"
#include "deploy/episode.h"
#include "deploy/existing_recording.h"
#include "deploy/losses.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;

// After so many attempts the share of successes is looked at.
constexpr int64_t kAttemptsBeforeGivingUp = 50;

struct Attempt {
  std::vector<Step> steps;
  data::Playback playback;
  EpisodeResult result;
};

Attempt demonstrate(environments::Environment& environment, const DemonstrationOptions& options,
                    int64_t index) {
  Attempt attempt;
  Random random(static_cast<uint64_t>(options.seed), "demonstration noise", static_cast<uint64_t>(index));
  const auto actor = [&environment](Rollout& rollout) {
    std::optional<Action> action = environment.expert();
    APO_CHECK(RunError, action.has_value(), "environment ", environment.spec().name, ", ", rollout.where(),
              ": has no expert to demonstrate the task (Environment::expert)");
    return rollout.demonstrate(environment.observe(), std::move(*action));
  };
  const environments::PlaybackSource* const simulator = environment.playback();
  const EpisodeHooks hooks{.decided =
                               [&](ActionSource) {
                                 if (simulator && attempt.steps.empty())
                                   attempt.playback.model = simulator->simulator_model();
                                 attempt.playback.states.push_back(simulator ? simulator->simulator_state()
                                                                             : std::vector<double>());
                               },
                           .stepped = [&](const Step& step) { attempt.steps.push_back(step); },
                           .disturbed =
                               [&](Action& executed) {
                                 const auto noisy =
                                     std::min(static_cast<size_t>(options.noise_dimensions), executed.size());
                                 for (size_t d = 0; d < noisy; ++d)
                                   executed[d] += static_cast<float>(options.action_noise * random.normal());
                               }};
  Rollout rollout(environment.spec(), static_cast<uint64_t>(options.seed + index),
                  {.max_steps = options.max_steps, .where = concat("attempt ", index)});
  attempt.result = play(environment, rollout, actor, hooks);
  return attempt;
}

std::string env_args_of(const environments::Environment& environment) {
  const environments::PlaybackSource* const simulator = environment.playback();
  return simulator ? simulator->env_args() : "";
}

void record(const Attempt& attempt, data::TrajectoryWriter& writer) {
  writer.begin_episode(attempt.steps.front().observation.instruction, attempt.playback.model);
  for (size_t i = 0; i < attempt.steps.size(); ++i)
    writer.append(attempt.steps[i], attempt.playback.states[i]);
  writer.end_episode(true, attempt.result.outcome);
}

}  // namespace

void DemonstrationOptions::visit(config::Visitor& v) {
  v("episodes", episodes, "successful demonstrations to record", config::at_least(1));
  v("max_steps", max_steps, "an attempt that takes longer is dropped", config::at_least(1));
  v("seed", seed, "attempt i is reset with seed + i", config::at_least(0));
  v("action_noise", action_noise, "standard deviation added to what is executed, not to what is recorded",
    config::at_least(0));
  v("noise_dimensions", noise_dimensions, "the first so many action dimensions get noise",
    config::at_least(0));
  v.no_section("habit", "environment.tabletop.demonstration_habit says it");  // it was here once
  v("existing", existing, "what to do when the output exists: refuse, append or overwrite");
}

CollectionSummary collect_demonstrations(environments::Environment& environment,
                                         const DemonstrationOptions& options, const fs::path& output) {
  CollectionSummary summary = prepare_output(output, options.existing);
  if (summary.recorded >= options.episodes) return summary;
  data::TrajectoryWriter writer(output, {.environment_name = environment.spec().name,
                                         .environment_config = environment.spec().config,
                                         .policy = "expert",
                                         .policy_hash = "",
                                         .env_args = env_args_of(environment)});
  const Stopwatch stopwatch;
  const double seconds_before = summary.seconds;
  Progress progress("demonstrations", options.episodes);
  int64_t losses = 0;  // of the running attempt
  while (summary.recorded < options.episodes) {
    Attempt attempt;
    try {
      attempt = demonstrate(environment, options, summary.episodes);
      losses = 0;
    } catch (const environments::EpisodeLost& error) {
      ++summary.interrupted;
      note_loss(error, concat("attempt ", summary.episodes), ++losses);
      continue;
    }
    if (attempt.result.interrupted)
      throw Interrupted(
          concat("interrupted; ", output.string(), " holds ", summary.recorded, " demonstrations"));
    ++summary.episodes;
    ++summary.outcomes[attempt.result.outcome];
    if (attempt.result.success && !attempt.steps.empty()) {
      record(attempt, writer);
      ++summary.recorded;
      ++summary.alone;
      summary.steps["expert"] += std::ssize(attempt.steps);
    } else {
      ++summary.lost;
    }
    summary.seconds = seconds_before + stopwatch.seconds();
    write_file_atomic(summary_path(output), summary.json());
    progress.update(summary.recorded, concat(summary.episodes, " attempts"));
    APO_CHECK(RunError,
              summary.episodes < kAttemptsBeforeGivingUp || 10 * summary.recorded >= summary.episodes,
              "demonstrations: only ", summary.recorded, " of ", summary.episodes,
              " attempts of the expert succeeded; expected at least one in ten (environment ",
              environment.spec().name, ")");
  }
  return summary;
}

CollectionSummary collect_demonstrations(const environments::EnvironmentOptions& environment,
                                         const DemonstrationOptions& options, const fs::path& output) {
  environments::EnvironmentOptions demonstrating = environment;
  demonstrating.demonstrating = true;
  return collect_demonstrations(*environments::make_environment(demonstrating), options, output);
}

}  // namespace apo::deploy
