#include "apo/deploy/evaluator.h"

#include <torch/types.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/config/options.h"
#include "apo/deploy/outputs.h"
#include "apo/pictures/webp.h"
#include "base/stopwatch.h"
#include "deploy/decide.h"
#include "deploy/episode.h"
#include "deploy/losses.h"
#include "environments/pool.h"

namespace apo::deploy {
namespace {

// One place in the lock-step: an environment and the trial that it is playing.
struct Slot {
  int64_t trial = -1;  ///< -1: idle
  std::optional<Rollout> rollout = {};
  Observation observation = {};  ///< prepared for the policy, where it is asked
  std::vector<at::Tensor> frames = {};
  int64_t losses = 0;  ///< of this trial
};

Trial trial_of(int64_t trial, uint64_t seed, EpisodeResult played) {
  return {.trial = trial,
          .seed = seed,
          .success = played.success,
          .unaided = played.flawless,
          .outcome = std::move(played.outcome),
          .steps = played.steps,
          .facts = std::move(played.facts)};
}

// All trials of one evaluation. An environment that has finished a trial takes the next one at once, so that
// the batches stay full.
class LockStep {
 public:
  LockStep(models::Policy& policy, const environments::EnvironmentOptions& environment,
           const EvalOptions& options)
      : policy_(policy),
        options_(options),
        pool_(environment, std::min(options.parallel, options.trials), options.threads),
        slots_(static_cast<size_t>(pool_.size())),
        trials_(static_cast<size_t>(options.trials)) {}

  EvalResult run() {
    Progress progress("evaluate", options_.trials);
    std::vector<int64_t> free(slots_.size()), playing;
    std::iota(free.begin(), free.end(), 0);
    int64_t next = 0, finished = 0;
    while (finished < options_.trials) {
      if (interrupted())
        throw InterruptedEvaluation(
            concat("interrupted after ", finished, " of ", options_.trials, " trials"),
            first_trials(playing));
      std::vector<int64_t> begun;
      for (const int64_t i : free) {
        if (next == options_.trials) break;
        slot(i) = {.trial = next++};
        begun_ = next;
        begun.push_back(i);
      }
      begin(begun);
      playing.insert(playing.end(), begun.begin(), begun.end());
      std::sort(playing.begin(), playing.end());
      decide_for(those(playing, [](const Rollout& r) { return !r.over() && r.needs_decision(); }));
      advance(those(playing, [](const Rollout& r) { return !r.over(); }));
      free = those(playing, &Rollout::over);
      finished += std::ssize(free);
      playing = those(playing, [](const Rollout& r) { return !r.over(); });
      // of success nothing yet: trials that succeed are over before those that time out
      progress.update(finished);
    }
    return result();
  }

 private:
  Slot& slot(int64_t i) { return slots_[static_cast<size_t>(i)]; }
  bool drawn(const Slot& slot) const { return slot.trial < options_.animations; }

  std::vector<int64_t> those(const std::vector<int64_t>& slots,
                             const std::function<bool(const Rollout&)>& are) {
    std::vector<int64_t> found;
    std::ranges::copy_if(slots, std::back_inserter(found), [&](int64_t i) { return are(*slot(i).rollout); });
    return found;
  }

  // What follows a reset or a step.
  void go_on(Slot& slot, environments::Environment& environment) {
    if (slot.rollout->over()) {
      end(slot, environment);
    } else if (slot.rollout->needs_decision()) {
      slot.observation = environment.observe();
      prepare(policy_, *slot.rollout, slot.observation);
    }
  }

  void begin(const std::vector<int64_t>& begun) {
    pool_.run(begun, [&](int64_t i, environments::Environment& environment) {
      play(slot(i), environment, [&] { start(slot(i), environment); });
    });
  }

  void start(Slot& slot, environments::Environment& environment) {
    const auto seed = static_cast<uint64_t>(options_.seed + slot.trial);
    slot.frames.clear();
    slot.rollout.emplace(environment.spec(), seed,
                         RolloutOptions{.max_steps = options_.max_steps,
                                        .where = concat("trial ", slot.trial, " (seed ", seed, ")")});
    slot.rollout->begin(environment.reset(seed));
    go_on(slot, environment);
  }

  // A trial that is lost begins anew.
  void play(Slot& slot, environments::Environment& environment, std::function<void()> part) {
    for (;; part = [&] { start(slot, environment); }) try {
        return part();
      } catch (const environments::EpisodeLost& error) {
        note_loss(error, concat("trial ", slot.trial), ++slot.losses);
      }
  }

  void decide_for(const std::vector<int64_t>& asking) {
    if (asking.empty()) return;
    std::vector<Observation> observations;
    std::vector<Rollout*> rollouts;
    for (const int64_t i : asking) {
      observations.push_back(std::move(slot(i).observation));
      rollouts.push_back(&*slot(i).rollout);
    }
    num_clamped_tokens_ += decide(policy_, observations, rollouts, options_.temperature);
  }

  void advance(const std::vector<int64_t>& playing) {
    pool_.run(playing, [&](int64_t i, environments::Environment& environment) {
      Slot& s = slot(i);
      play(s, environment, [&] {
        if (drawn(s)) s.frames.push_back(environment.render(options_.animation_size));
        Step step = s.rollout->act({});
        s.rollout->happened(environment.step(s.rollout->executed(step.action)), step);
        go_on(s, environment);
      });
    });
  }

  void end(Slot& s, environments::Environment& environment) {
    trials_[static_cast<size_t>(s.trial)] = trial_of(s.trial, s.rollout->seed(), s.rollout->result());
    if (!drawn(s)) return;
    s.frames.push_back(environment.render(options_.animation_size));
    std::string animation = pictures::encode_animation(s.frames, environment.spec().control_hz / 2);
    std::lock_guard lock(animations_mutex_);
    animations_[s.trial] = std::move(animation);
  }

  // Those before the first that is still played or has not begun: trials that end early are no fair sample.
  EvalResult first_trials(const std::vector<int64_t>& playing) {
    int64_t count = begun_;
    for (const int64_t i : playing) count = std::min(count, slot(i).trial);
    trials_.resize(static_cast<size_t>(count));
    return count > 0 ? result() : EvalResult();
  }

  EvalResult result() {
    EvalResult result = results::summarize_trials(std::move(trials_));
    result.animations = std::move(animations_);
    result.num_clamped_tokens = num_clamped_tokens_;
    return result;
  }

  models::Policy& policy_;
  const EvalOptions& options_;
  environments::EnvironmentPool pool_;
  std::vector<Slot> slots_;
  std::vector<Trial> trials_;
  int64_t num_clamped_tokens_ = 0, begun_ = 0;
  std::mutex animations_mutex_;
  std::map<int64_t, std::string> animations_;
};

}  // namespace

void EvalOptions::visit(config::Visitor& v) {
  v("trials", trials, "episodes; more narrow the interval", config::at_least(1));
  v("seed", seed, "trial i is reset with seed + i", config::at_least(0));
  v("parallel", parallel,
    "environments in lock-step: one forward pass decides for all; more need more memory",
    config::between(1, 4096));
  v("threads", threads,
    "that step and draw the environments, whatever run.threads says of the policy's forward pass between "
    "them (the two take turns); 0: all cores",
    config::between(0, 1024));
  v("max_steps", max_steps, "of a trial; 0: the environment's", config::at_least(0));
  v("temperature", temperature, "of decoding; 0 is greedy", config::at_least(0));
  v("animations", animations, "WebP animations of the first so many trials", config::at_least(0));
  v("animation_size", animation_size, "their side in pixels; larger files", config::between(16, 2048));
  v("decode", decode,
    "with --dataset: also decoded_tokens and decoded_action, what the policy itself decides at each recorded "
    "step");
  v("disruptions", disruptions,
    "names from environment.disruptions, each tried on the same seeds beside the undisrupted trials; [all]: "
    "every one that the environment offers");
}

namespace {

EvalResult run_trials(models::Policy& policy, const environments::EnvironmentOptions& environment,
                      const EvalOptions& options) {
  const Stopwatch stopwatch;
  EvalResult result = LockStep(policy, environment, options).run();
  result.seconds = stopwatch.seconds();
  result.steps_per_second = static_cast<double>(result.steps) / std::max(result.seconds, 1e-9);
  return result;
}

}  // namespace

EvalResult evaluate(models::Policy& policy, const environments::EnvironmentOptions& environment,
                    const EvalOptions& options) {
  APO_CHECK(ConfigError, options.trials >= 1 && options.parallel >= 1 && options.seed >= 0,
            "eval: expected trials >= 1, parallel >= 1 and seed >= 0, found ", options.trials, ", ",
            options.parallel, " and ", options.seed);
  policy.set_training(false);
  const std::vector<std::string> disruptions =
      environments::chosen_disruptions(environment, options.disruptions);
  EvalResult result = run_trials(
      policy, options.disruptions.empty() ? environment : environments::disrupted_by(environment, "none"),
      options);
  result.policy_hash = models::parameter_hash(policy);
  for (const std::string& disruption : disruptions) {
    log_info("evaluate: ", disruption);
    DisruptedResult disrupted{.disruption = disruption, .result = {}, .against_none = {}};
    try {
      disrupted.result = run_trials(policy, environments::disrupted_by(environment, disruption), options);
    } catch (const InterruptedEvaluation& error) {
      throw InterruptedEvaluation(concat(disruption, ": ", error.what()), std::move(result));
    }
    disrupted.result.policy_hash = result.policy_hash;
    disrupted.against_none = paired_test(disrupted.result.successes(), result.successes());
    result.disruptions.push_back(std::move(disrupted));
  }
  return result;
}

void check_evaluation(const models::Policy& policy, const environments::EnvironmentOptions& environment,
                      const EvalOptions& options) {
  const auto seed = static_cast<uint64_t>(options.seed);
  const auto made = environments::make_environment(environment);
  made->reset(seed);
  RolloutOptions named;
  named.where = concat("seed ", seed);
  const Rollout rollout(made->spec(), seed, named);
  Observation seen = made->observe();
  prepare(policy, rollout, seen);
}

RecordedTrial record_trial(models::Policy& policy, environments::Environment& environment, uint64_t seed,
                           int64_t size, InterventionSource* human) {
  RecordedTrial recorded;
  ActionSource last = ActionSource::policy;
  const auto draw = [&](ActionSource source) {
    last = source;
    const at::Tensor frame = environment.render(size);
    recorded.frames.push_back(human ? pictures::with_border(frame, source) : frame);
  };
  policy.set_training(false);
  Rollout rollout(
      environment.spec(), seed,
      {.max_steps_with_human = 70, .record_policy_action = false, .where = concat("seed ", seed)});
  const EpisodeResult episode =
      play_episode(environment, rollout, policy, human, 0, {.decided = draw, .stepped = {}});
  if (episode.interrupted) throw Interrupted(concat("interrupted while drawing the episode of seed ", seed));
  draw(last);
  recorded.take_overs = std::ssize(episode.take_over_reasons);
  recorded.trial = trial_of(0, seed, episode);
  return recorded;
}

}  // namespace apo::deploy
