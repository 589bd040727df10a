#include "apo/deploy/collector.h"

#include <torch/types.h>

#include <algorithm>
#include <array>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/data/trajectory.h"
#include "apo/environments/playback.h"
#include "apo/pictures/webp.h"
#include "base/stopwatch.h"
#include "deploy/episode.h"
#include "deploy/existing_recording.h"
#include "deploy/losses.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;

// The frames of one episode, framed in the color of who acts.
class CorrectionPictures {
 public:
  CorrectionPictures(environments::Environment& environment, const CollectOptions& options,
                     const fs::path& output)
      : environment_(environment),
        size_(options.animation_size),
        left_(options.animations),
        output_(output) {}

  void begin() { frames_.clear(); }
  void take(ActionSource source) {
    last_ = source;
    if (left_ > 0) frames_.push_back(pictures::with_border(environment_.render(size_), source));
  }
  void end(int64_t episode, bool corrected) {
    if (left_ <= 0 || !corrected) return;
    take(last_);
    const fs::path path =
        output_.parent_path() / concat(output_.stem().string(), "-correction-", episode, ".webp");
    pictures::write_animation(path, frames_, environment_.spec().control_hz / 2);
    --left_;
  }

 private:
  environments::Environment& environment_;
  int64_t size_, left_;
  fs::path output_;
  ActionSource last_ = ActionSource::policy;
  std::vector<at::Tensor> frames_;
};

void count_recorded(const std::map<std::string, int64_t>& steps, CollectionSummary& summary) {
  ++summary.recorded;
  for (const auto& [source, count] : steps) summary.steps[source] += count;
}

void count_episode(const EpisodeResult& episode, bool recorded, const std::map<std::string, int64_t>& steps,
                   CollectionSummary& summary) {
  const bool corrected = !episode.take_over_reasons.empty();
  ++summary.episodes;
  summary.take_overs += static_cast<int64_t>(episode.take_over_reasons.size());
  for (const std::string& reason : episode.take_over_reasons) ++summary.take_overs_by_reason[reason];
  summary.take_overs_by_episode.push_back(episode.take_over_reasons);
  summary.hand_backs += episode.hand_backs;
  summary.num_clamped_tokens += episode.num_clamped_tokens;
  ++(episode.success ? (corrected ? summary.corrected : summary.alone) : summary.lost);
  ++summary.outcomes[episode.outcome];
  if (recorded) count_recorded(steps, summary);
}

// Corrections are imitated whether they helped or not: a human who mostly fails teaches to fail.
struct VainCorrections {
  int64_t corrected = 0, in_vain = 0;  // episodes that were judged and recorded
  void count(const EpisodeResult& episode, bool recorded) {
    if (!recorded || !episode.judged || episode.take_over_reasons.empty()) return;
    ++corrected;
    in_vain += static_cast<int64_t>(!episode.success);
  }
  void warn() const {
    constexpr int64_t kSome = 10;  // with fewer, chance may have it
    if (corrected >= kSome && 2 * in_vain > corrected)
      log_warn("collect: ", in_vain, " of ", corrected,
               " corrected episodes failed all the same, and what the human did in vain is imitated: does he "
               "take over too late? (deploy.collect.drop_failed records none of it)");
  }
};

bool finished(const CollectionSummary& summary, const CollectOptions& options) {
  return summary.episodes >= options.episodes ||
         (options.take_overs > 0 && summary.take_overs >= options.take_overs);
}

[[noreturn]] void stop_for_interrupt(const CollectionSummary& summary, const fs::path& output,
                                     bool had_begun) {
  if (summary.recorded == 0) throw Interrupted("interrupted; nothing was recorded");
  throw Interrupted(concat("interrupted; ", output.string(), " holds ", summary.recorded, " episodes with ",
                           summary.take_overs, " take-overs",
                           had_begun ? "; the one that ran is not among them" : ""));
}

// A recording that was made for nothing is in nobody's way.
class RemovedIfEmpty {
 public:
  explicit RemovedIfEmpty(const fs::path& output) : output_(output), existed_(fs::exists(output)) {}
  ~RemovedIfEmpty() {
    std::error_code error;
    if (existed_ || recorded_) return;
    fs::remove(output_, error);
    fs::remove(summary_path(output_), error);
  }
  void recorded() { recorded_ = true; }

 private:
  const fs::path output_;
  const bool existed_;
  bool recorded_ = false;
};

}  // namespace

std::span<const std::pair<ExistingFile, std::string_view>> enum_names(ExistingFile) {
  static constexpr std::array<std::pair<ExistingFile, std::string_view>, 3> kNames = {
      {{ExistingFile::refuse, "refuse"},
       {ExistingFile::append, "append"},
       {ExistingFile::overwrite, "overwrite"}}};
  return kNames;
}

void CollectOptions::visit(config::Visitor& v) {
  v("take_overs", take_overs, "stop after so many take-overs; 0: only `episodes` counts",
    config::at_least(0));
  v("episodes", episodes, "stop after so many episodes, whatever happened", config::at_least(1));
  v("max_steps_with_human", max_steps_with_human, "steps of an episode once a human took over",
    config::at_least(1));
  v("max_steps_after_hand_back", max_steps_after_hand_back,
    "steps that the policy then has after the human's last one; 0: as many as the episode",
    config::at_least(0));
  v("seed", seed, "episode i is reset with seed + i", config::at_least(0));
  v("record_policy_action", record_policy_action, "keep what the policy wanted while the human acted");
  v("drop_failed", drop_failed, "do not record episodes that did not succeed");
  v("temperature", temperature, "of the policy's decoding; 0 is greedy", config::at_least(0));
  v("animations", animations, "WebP animations of the first so many corrected episodes", config::at_least(0));
  v("animation_size", animation_size, "their side in pixels; larger files", config::between(16, 2048));
  v("existing", existing, "what to do when the output exists: refuse, append or overwrite");
}

CollectionSummary collect(environments::Environment& environment, models::Policy& policy,
                          InterventionSource& human, const CollectOptions& options, const fs::path& output) {
  CollectionSummary summary = prepare_output(output, options.existing);
  if (finished(summary, options)) return summary;
  const environments::PlaybackSource* const simulator = environment.playback();
  RemovedIfEmpty file(output);
  data::TrajectoryWriter writer(output, {.environment_name = environment.spec().name,
                                         .environment_config = environment.spec().config,
                                         .policy = "policy",
                                         .policy_hash = models::parameter_hash(policy),
                                         .env_args = simulator ? simulator->env_args() : ""});
  const Stopwatch stopwatch;
  const double seconds_before = summary.seconds;
  policy.set_training(false);
  CorrectionPictures pictures(environment, options, output);
  std::optional<Progress> progress;  // of a person nobody knows how long it takes
  if (human.repeatable())
    progress.emplace("collect", options.take_overs > 0 ? options.take_overs : options.episodes);
  const bool repeatable = environment.spec().repeatable && human.repeatable();
  int64_t losses = 0;  // of the running episode
  VainCorrections vain;
  while (!finished(summary, options)) {
    const int64_t index = summary.episodes;
    std::map<std::string, int64_t> steps;
    bool begun = false;
    std::vector<double> simulator_state;  // before the step
    const EpisodeHooks hooks{.decided =
                                 [&](ActionSource source) {
                                   pictures.take(source);
                                   if (simulator) simulator_state = simulator->simulator_state();
                                 },
                             .stepped =
                                 [&](const Step& step) {
                                   if (!begun)
                                     writer.begin_episode(step.observation.instruction,
                                                          simulator ? simulator->simulator_model() : "");
                                   begun = true;
                                   writer.append(step, simulator_state);
                                   ++steps[std::string(to_string(step.source))];
                                 }};
    pictures.begin();
    EpisodeResult episode;
    try {
      Rollout rollout(environment.spec(), static_cast<uint64_t>(options.seed + index),
                      {.max_steps_with_human = options.max_steps_with_human,
                       .max_steps_after_hand_back = options.max_steps_after_hand_back,
                       .record_policy_action = options.record_policy_action,
                       .where = concat("episode ", index)});
      episode = play_episode(environment, rollout, policy, &human, options.temperature, hooks);
      losses = 0;
    } catch (const environments::EpisodeLost& error) {
      ++summary.interrupted;
      if (begun && repeatable) {
        writer.discard_episode();
      } else if (begun) {
        file.recorded();
        writer.end_episode(std::nullopt, std::string(kInterruptedEpisode));
        count_recorded(steps, summary);
      }
      write_file_atomic(summary_path(output), summary.json());
      note_loss(error, concat("episode ", index), ++losses);
      continue;
    } catch (...) {
      if (begun) writer.discard_episode();
      throw;
    }
    const std::string name = concat("demo_", writer.next_number());
    const bool record = begun && !episode.interrupted && (episode.success || !options.drop_failed);
    if (record) {
      file.recorded();
      writer.end_episode(episode.judged ? std::optional(episode.success) : std::nullopt, episode.outcome);
    } else if (begun) {
      writer.discard_episode();
    }
    if (episode.interrupted) stop_for_interrupt(summary, output, begun);
    human.ended(episode, record ? name : "");
    count_episode(episode, record, steps, summary);
    vain.count(episode, record);
    pictures.end(index, !episode.take_over_reasons.empty());
    summary.seconds = seconds_before + stopwatch.seconds();
    write_file_atomic(summary_path(output), summary.json());
    const std::string so_far = concat(summary.episodes, " episodes, ", summary.take_overs, " take-overs");
    if (progress)
      progress->update(
          options.take_overs > 0 ? std::min(summary.take_overs, options.take_overs) : summary.episodes,
          so_far);
    else
      log_info("collect: ", episode.outcome, "; ", so_far, " so far");
  }
  vain.warn();
  return summary;
}

void DeployOptions::visit(config::Visitor& v) {
  v("intervention", intervention, "who may take over");
  v("collect", collect, "when a deployment ends and what is recorded");
  v("demonstrations", demonstrations, "the expert's demonstrations");
}

}  // namespace apo::deploy
