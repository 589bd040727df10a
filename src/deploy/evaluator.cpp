#include "apo/deploy/evaluator.h"

#include <torch/types.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <numeric>
#include <utility>

#include "apo/base/error.h"
#include "apo/base/interrupt.h"
#include "apo/base/log.h"
#include "apo/base/random.h"
#include "apo/config/options.h"
#include "apo/data/webp.h"
#include "apo/deploy/outputs.h"
#include "deploy/decide.h"
#include "deploy/episode.h"
#include "deploy/pool.h"
#include "deploy/results.h"

namespace apo::deploy {
namespace {

// One place in the lock-step: an environment and the trial that it is playing.
struct Slot {
  int64_t trial = -1;  ///< -1: idle
  int64_t steps = 0;
  bool over = false;
  Observation observation;  ///< prepared for the policy
  Action action;
  std::vector<at::Tensor> frames;
};

// All trials of one evaluation. An environment that has finished a trial takes the next one at once, so that
// the batches stay full.
class LockStep {
 public:
  LockStep(models::Policy& policy, const EnvironmentOptions& environment, const EvalOptions& options)
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
    for (uint64_t tick = 0; finished < options_.trials; ++tick) {
      if (interrupted())
        throw InterruptedEvaluation(
            concat("interrupted after ", finished, " of ", options_.trials, " trials"),
            first_trials(playing));
      std::vector<int64_t> begun;
      for (const int64_t i : free) {
        if (next == options_.trials) break;
        slot(i) = Slot();
        slot(i).trial = next++;
        begun_ = next;
        begun.push_back(i);
      }
      begin(begun);
      playing.insert(playing.end(), begun.begin(), begun.end());
      std::sort(playing.begin(), playing.end());
      decide_all(playing, tick);
      advance(playing);
      free.clear();
      for (const int64_t i : playing) {
        if (!slot(i).over) continue;
        free.push_back(i);
        ++finished;
      }
      std::erase_if(playing, [&](int64_t i) { return slot(i).over; });
      // of success nothing yet: trials that succeed are over before those that time out
      progress.update(finished);
    }
    return result();
  }

 private:
  Slot& slot(int64_t i) { return slots_[static_cast<size_t>(i)]; }
  bool drawn(const Slot& slot) const { return slot.trial < options_.animations; }

  void observe(Slot& slot, Environment& environment) {
    slot.observation = environment.observe();
    policy_.prepare(slot.observation);
  }

  void begin(const std::vector<int64_t>& begun) {
    pool_.run(begun, [&](int64_t i, Environment& environment) {
      const uint64_t seed = static_cast<uint64_t>(options_.seed + slot(i).trial);
      environment.reset(seed);
      observe(slot(i), environment);
    });
  }

  void decide_all(const std::vector<int64_t>& playing, uint64_t tick) {
    std::vector<Observation> observations;
    for (const int64_t i : playing) observations.push_back(std::move(slot(i).observation));
    const models::DecodeOptions decoding{
        .temperature = options_.temperature,
        .seed = mix_seed(static_cast<uint64_t>(options_.seed), "decode", tick)};
    const auto where = [&](size_t k) {
      const Slot& s = slot(playing[k]);
      return concat("trial ", s.trial, " (seed ", options_.seed + s.trial, "), step ", s.steps);
    };
    const int64_t size = action_size();
    Decision decision = decide(policy_, observations, size, gripper_, decoding, where);
    num_clamped_tokens_ += decision.num_clamped_tokens;
    for (size_t k = 0; k < playing.size(); ++k) slot(playing[k]).action = std::move(decision.actions[k]);
  }

  int64_t action_size() {
    if (action_size_ == 0) {
      const std::vector<int64_t> first = {0};
      pool_.run(first, [&](int64_t, Environment& environment) {
        action_size_ = environment.action_size();
        gripper_ = environment.gripper();
      });
    }
    return action_size_;
  }

  void advance(const std::vector<int64_t>& playing) {
    pool_.run(playing, [&](int64_t i, Environment& environment) {
      Slot& s = slot(i);
      if (drawn(s)) s.frames.push_back(environment.render(options_.animation_size));
      environment.step(s.action);
      ++s.steps;
      const int64_t limit = options_.max_steps > 0 ? options_.max_steps : environment.max_steps();
      s.over = environment.done() || s.steps >= limit;
      if (s.over)
        end(s, environment);
      else
        observe(s, environment);
    });
  }

  void end(Slot& s, Environment& environment) {
    trials_[static_cast<size_t>(s.trial)] = {
        .trial = s.trial,
        .seed = static_cast<uint64_t>(options_.seed + s.trial),
        .success = environment.success(),
        .unaided = environment.flawless(),
        .outcome = environment.done() ? environment.outcome() : "timeout",
        .steps = s.steps,
        .facts = environment.facts()};
    if (!drawn(s)) return;
    s.frames.push_back(environment.render(options_.animation_size));
    std::string animation = data::encode_animation(s.frames, environment.control_hz() / 2);
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
    EvalResult result = summarize_trials(std::move(trials_));
    result.animations = std::move(animations_);
    result.num_clamped_tokens = num_clamped_tokens_;
    return result;
  }

  models::Policy& policy_;
  const EvalOptions& options_;
  EnvironmentPool pool_;
  std::vector<Slot> slots_;
  std::vector<Trial> trials_;
  int64_t action_size_ = 0, num_clamped_tokens_ = 0, begun_ = 0;
  data::GripperOptions gripper_;   // of the environment
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
    "that step and draw the environments, whatever run.threads says of the policy's forward pass between them (the two "
    "take turns); 0: all cores",
    config::between(0, 1024));
  v("max_steps", max_steps, "of a trial; 0: the environment's", config::at_least(0));
  v("temperature", temperature, "of decoding; 0 is greedy", config::at_least(0));
  v("animations", animations, "WebP animations of the first so many trials", config::at_least(0));
  v("animation_size", animation_size, "their side in pixels; larger files", config::between(16, 2048));
  v("disruptions", disruptions,
    "names from environment.disruptions, each tried on the same seeds beside the undisrupted trials; [all]: every one "
    "that the environment offers");
}

namespace {

EvalResult run_trials(models::Policy& policy, const EnvironmentOptions& environment, const EvalOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  EvalResult result = LockStep(policy, environment, options).run();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.steps_per_second = static_cast<double>(result.steps) / std::max(result.seconds, 1e-9);
  return result;
}

}  // namespace

EvalResult evaluate(models::Policy& policy, const EnvironmentOptions& environment,
                    const EvalOptions& options) {
  APO_CHECK(ConfigError, options.trials >= 1 && options.parallel >= 1 && options.seed >= 0,
            "eval: expected trials >= 1, parallel >= 1 and seed >= 0, found ", options.trials, ", ",
            options.parallel, " and ", options.seed);
  policy.set_training(false);
  const std::vector<std::string> disruptions = chosen_disruptions(environment, options.disruptions);
  EvalResult result =
      run_trials(policy, options.disruptions.empty() ? environment : disrupted_by(environment, "none"), options);
  result.policy_hash = models::parameter_hash(policy);
  for (const std::string& disruption : disruptions) {
    log_info("evaluate: ", disruption);
    DisruptedResult disrupted{.disruption = disruption,
                              .result = {},
                              .against_none = {}};
    try {
      disrupted.result = run_trials(policy, disrupted_by(environment, disruption), options);
    } catch (const InterruptedEvaluation& error) {
      throw InterruptedEvaluation(concat(disruption, ": ", error.what()), std::move(result));
    }
    disrupted.result.policy_hash = result.policy_hash;
    disrupted.against_none = paired_test(disrupted.result.successes(), result.successes());
    result.disruptions.push_back(std::move(disrupted));
  }
  return result;
}

RecordedTrial record_trial(models::Policy& policy, Environment& environment, uint64_t seed, int64_t size,
                           InterventionSource* human) {
  RecordedTrial recorded;
  ActionSource last = ActionSource::policy;
  const auto draw = [&](ActionSource source) {
    last = source;
    const at::Tensor frame = environment.render(size);
    recorded.frames.push_back(human ? data::with_border(frame, source) : frame);
  };
  policy.set_training(false);
  const EpisodeResult episode =
      play_episode(environment, policy, human,
                   {.seed = seed, .record_policy_action = false, .where = concat("seed ", seed)},
                   {.decided = draw, .stepped = {}});
  if (episode.interrupted) throw Interrupted(concat("interrupted while drawing the episode of seed ", seed));
  draw(last);
  recorded.take_overs = std::ssize(episode.take_over_reasons);
  recorded.trial = {.trial = 0,
                    .seed = seed,
                    .success = episode.success,
                    .unaided = episode.flawless,
                    .outcome = episode.outcome,
                    .steps = episode.steps,
                    .facts = episode.facts};
  return recorded;
}

}  // namespace apo::deploy
