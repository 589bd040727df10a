// One episode, whoever owns the clock: who acts in each step, what is executed of it, and when time is up.
//
//   deploy::Rollout rollout(environment.spec(), seed, {.max_steps_with_human = 70});
//   rollout.begin(environment.reset(seed));
//   while (!rollout.over()) {
//     Observation seen = environment.observe();
//     if (rollout.needs_decision()) rollout.decided(actions of the policy, one or a chunk);
//     auto correction = human.decide(rollout.moment(seen, expert));
//     Step step = rollout.act(std::move(seen), std::move(correction));
//     rollout.happened(environment.step(rollout.executed(step.action)), step);
//   }
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/random.h"
#include "apo/base/types.h"
#include "apo/deploy/intervention.h"
#include "apo/environments/environment.h"

namespace apo::deploy {

struct RolloutOptions {
  int64_t max_steps = 0;             ///< 0: the environment's
  int64_t max_steps_with_human = 0;  ///< once a human took over; never less than without
  /// that the policy has after the human's last one; 0: as the episode has
  int64_t max_steps_after_hand_back = 0;
  bool record_policy_action = true;  ///< keep what the policy wanted while a human acts
  std::string where = "episode";     ///< what messages call it, "episode 3"
};

struct EpisodeResult {
  bool success = false;
  bool flawless = false;  ///< success, no take-over, and never where a watching human would have stepped in
  std::string outcome;    ///< the environment's, "timeout", or that of Rollout::stop
  int64_t steps = 0;
  std::vector<std::string> take_over_reasons;  ///< one for each take-over
  int64_t hand_backs = 0;
  int64_t num_clamped_tokens = 0;  ///< tokens that were no action tokens, answers that were no whole code
  environments::Facts facts;
  bool judged = true;        ///< false: nobody can tell whether it succeeded
  bool interrupted = false;  ///< a signal arrived: the episode is not finished
};

/// Counts take-overs and hand-backs, plays chunks of actions, delays and disturbs what is executed as the
/// spec says. Everything in it depends on the seed, the situations and the actions alone.
class Rollout {
 public:
  Rollout(environments::EnvironmentSpec spec, uint64_t seed, RolloutOptions options = {});

  const environments::EnvironmentSpec& spec() const { return spec_; }
  uint64_t seed() const { return seed_; }
  int64_t steps() const { return steps_; }  ///< made so far: the number of the next one
  std::string where() const;                ///< "episode 3, step 12", for messages

  /// The environment was reset.
  void begin(const environments::Situation& situation) { situation_ = situation; }
  /// The task is decided, time is up, or it was stopped.
  bool over() const;
  /// It is over, with this outcome, and where `success` is known, with that.
  void stop(const std::string& outcome, std::optional<bool> success = {}) {
    stopped_ = {.outcome = outcome, .success = success};
  }

  /// Nothing is left of what the policy decided, or a human acted since: it has to be asked before `act`.
  bool needs_decision() const { return chunk_.empty(); }
  /// For the sampling of that decision: of the episode's seed and this step, whoever is asked along with it.
  uint64_t decision_seed() const;
  /// The policy's actions for this step and those after it, at least one of [A].
  void decided(std::vector<Action> chunk);
  /// What there is to know for who may take over, in this step; refers to `seen` and to the rollout.
  Moment moment(const Observation& seen, std::function<std::optional<Action>()> expert) const;

  /// The step that the human takes, or, without an intervention, the policy. RunError as check_action.
  Step act(Observation seen, std::optional<Intervention> intervention = {});
  /// The step that the expert takes. RunError as check_action.
  Step demonstrate(Observation seen, Action expert);
  /// What is executed in this step where `commanded` is wanted: noise and delay of the spec. Once a step.
  Action executed(const Action& commanded);
  /// What came of it; completes `step`: reward 1 where the task is achieved, done where the episode is over.
  /// Where a human at the robot acted, the step becomes his, and what is left of the policy's chunk goes; an
  /// expert's step stays one. What a limit of the robot made of an action is recorded in its place, unless
  /// noise or delay changed it before.
  void happened(const environments::Situation& situation, Step& step);

  EpisodeResult result() const;

 private:
  Action with_noise(Action action);
  void taken_over(const environments::Executed& executed, Step& step);

  environments::EnvironmentSpec spec_;
  uint64_t seed_;
  RolloutOptions options_;
  environments::Situation situation_;
  std::optional<Ending> stopped_;
  int64_t steps_ = 0, hand_backs_ = 0;
  std::vector<std::string> take_over_reasons_;
  ActionSource last_ = ActionSource::policy, before_ = ActionSource::policy;  // who acted; in the step before
  int64_t steps_alone_ = 0;      // of the policy since the human's last one
  Action asked_;                 // what the environment was asked to execute
  std::deque<Action> chunk_;     // decided and not yet acted, the next one first
  int64_t decision_offset_ = 0;  // steps since it was decided
  Random noise_;
  bool noisy_, delayed_;
  std::deque<Action> coming_;  // acted and not yet executed, oldest first
};

/// RunError naming `where` unless `action` has `size` finite numbers. `who` is "policy", "human" or "expert".
void check_action(const Action& action, int64_t size, const char* who, const std::string& where);

}  // namespace apo::deploy
