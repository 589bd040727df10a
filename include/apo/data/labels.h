// Who is desirable: the policy's own last K steps before each take-over become undesirable.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/config/gripper.h"
#include "apo/data/trajectory.h"

namespace apo::config {
class Visitor;
}

namespace apo::data {

/// What a step is for training. `intervention` steps are desirable and form a pool of their own.
enum class StepLabel { desirable, undesirable, intervention, skipped };
std::string_view to_string(StepLabel label);

enum class FailedEpisodes { keep, drop, undesirable_tail };
std::span<const std::pair<FailedEpisodes, std::string_view>> enum_names(FailedEpisodes);

/// What becomes of a demonstration whose `success` is false.
enum class FailedDemonstrations { drop, keep };
std::span<const std::pair<FailedDemonstrations, std::string_view>> enum_names(FailedDemonstrations);

/// What becomes, in training, of a desirable step whose chunk of actions, coded all at once, reaches into an
/// undesirable window: it would pull up what the window pushes down.
enum class ChunkOverlap { leave_out, keep };
std::span<const std::pair<ChunkOverlap, std::string_view>> enum_names(ChunkOverlap);

/// Which of the policy's steps before a take-over become undesirable.
enum class LabelWindow {
  steps,  ///< the last K
  onset,  ///< those since the mistake began, as far as the recorded actions tell
};
std::span<const std::pair<LabelWindow, std::string_view>> enum_names(LabelWindow);

/// Reasons of take-overs that say no more than that time passed: no step before one was the mistake.
inline constexpr std::array<std::string_view, 2> kReasonsOfTime{"out of patience", "stuck"};

struct LabelOptions {
  int64_t steps_before_intervention = 10;  ///< K
  LabelWindow window = LabelWindow::steps;
  int64_t max_window = 20;                            ///< of `onset`: no window is longer
  std::vector<std::string> undesirable_reasons = {};  ///< that make negatives; empty: all but kReasonsOfTime
  /// steps after the last intervention of a failed episode
  FailedEpisodes failed_episodes = FailedEpisodes::drop;
  FailedDemonstrations failed_demonstrations = FailedDemonstrations::drop;  ///< of expert sources
  /// dimension credit: the human's first so many actions of a take-over are averaged
  int64_t credit_actions = 3;
  ChunkOverlap chunk_overlap = ChunkOverlap::leave_out;  ///< of policies that code whole chunks
  void visit(config::Visitor& v);
};

/// What is imitated: steps that a filter leaves out are in neither the desirable nor the intervention pool.
struct FilterOptions {
  double max_abs_action = 1.0;  ///< a step with a larger |a| in any dimension is out of range
  double min_motion = 0.05;     ///< idle: Σ|a| without the gripper is smaller, and the gripper stays
  /// a human's step stands for what the hand did in so many steps from it on (imitated_actions); 1: as it was
  int64_t look_ahead = 1;
  double max_share = 0.9;  ///< of a source's steps; more is refused (Dataset::expect_enough_kept)
  void visit(config::Visitor& v);
};

/// Where filters stand. `paper`: take-overs and windows are decided on what was recorded, and filters thin
/// out what is imitated. `released_code`: filters first, so that a step that is left out takes no part in
/// anything; they look at the arm alone and thin out the undesirable steps, too.
enum class DataCompatibility { paper, released_code };
std::span<const std::pair<DataCompatibility, std::string_view>> enum_names(DataCompatibility);

/// All that decides the labels of an episode beside the episode.
struct LabelRules {
  bool is_expert = false;  ///< demonstrations: every step that is kept is desirable
  LabelOptions labels = {};
  FilterOptions filter = {};
  DataCompatibility compatibility = DataCompatibility::paper;
  config::GripperOptions gripper = {};  ///< its dimensions do not move the robot
};

struct LabelledStep {
  StepLabel label = StepLabel::skipped;
  std::string reason;  ///< why, in short: "before take-over", "before take-over, stuck", "idle"
  std::vector<float> dimension_credit;  ///< [A] in [0, 1]; empty = all one (no human action known)
  bool filtered = false;                ///< would be imitated, but a filter leaves it out
  bool take_over = false;               ///< the human's first step of an intervention
  /// the episode's take-over (0, 1, ..) that a step before it leads to, and that a human's step belongs to;
  /// -1: neither
  int32_t take_over_number = -1;
  bool no_negatives = false;  ///< at a take-over: nothing before it is undesirable, for its recorded reason
  bool window_cut_short = false;  ///< at another take-over: fewer than K policy steps came before it
  int32_t window_steps = 0;       ///< at a take-over: policy steps before it that its window holds
  /// at a take-over, with `onset`: the correction has no direction, K it is
  bool onset_not_found = false;
  bool nothing_to_imitate = false;  ///< at a take-over: no human step of it is in the intervention pool
  /// Would be imitated if there were no filters.
  bool is_imitable() const {
    return filtered || label == StepLabel::desirable || label == StepLabel::intervention;
  }
};

/// The actions that are imitated: with `look_ahead` N above 1, each human's one in which the arm moves
/// (`min_motion`) is the sum of the N from it on, but for the gripper, up to where the human hands back or
/// gives the gripper another command. Where a number of the sum is beyond -1 or 1, all become smaller
/// together, to that or to what the step had itself. So a hand that moves slowly or one axis after another is
/// learned from at full speed.
std::vector<Action> imitated_actions(const EpisodeRecord& episode, const LabelRules& rules);

/// Labels one episode, in this order: the K-step rule on the recorded steps, failed episodes, explicit
/// labels, filters.
/// Everything about actions is said of the imitated ones. Pure. ConfigError if the rules name a dimension of
/// the gripper that actions have not.
///
/// Steps that the file marks as skipped are as if they had not been recorded. A human's step after another's
/// is a take-over whether the arm moves or not; the last K policy steps before it, but none before the
/// previous intervention or the episode's start, become undesirable. A filter leaves a desirable or
/// intervention step out where |a| exceeds `max_abs_action`, or where it is idle: the arm moves less than
/// `min_motion` and every dimension of the gripper is as in the recorded step before (the first step has
/// none). Undesirable steps are never filtered: a robot that freezes is what a person corrects. NaN passes
/// the filters (Dataset refuses it).
/// A take-over whose recorded reason is not among `undesirable_reasons` makes no negatives: the K steps
/// before it are in no pool. Nor are, before any take-over, the policy's steps before the window at which its
/// recorded reason held already. A take-over without a recorded reason, or with an empty one, makes
/// negatives.
///
/// With `window: onset` the K steps above are those since the mistake began: going back from the take-over, a
/// step belongs to it while its action goes against the human's first `credit_actions` ones (their mean,
/// without the gripper; a negative scalar product), or is nearer to what the policy wanted there, where that
/// is recorded. One step in between that does neither ends nothing. Steps at which the take-over's recorded
/// reason held belong to it, too. One step at least, `max_window` at most. A human who moves less than
/// `min_motion` gives no direction: then it is the last K steps (`onset_not_found`). A window found so is cut
/// short only if it is empty.
///
/// An explicit label takes its step's place in the count of K, that of being neither as well; an explicitly
/// desirable human step stays in the intervention pool. `undesirable-tail`: of a failed episode's policy
/// steps after the last intervention, the last K become undesirable and the others are dropped.
/// dimension_credit of an undesirable step: c_j = min(1, |a_j − h_j|), h the mean of the human's first
/// `credit_actions` recorded actions of the take-over that made it undesirable.
/// With `released_code` the filters come first, and "recorded" above reads "kept": a human who does not move
/// takes nothing over; reasons are looked at only where `undesirable_reasons` names any.
/// Source  APO paper, section on preference labels; released dataset/balance_apo_dataset.py.
/// Differs the released code reaches over the episode's start and into expert data; here never.
///         Windows cut short by that are counted by `count_labels`.
std::vector<LabelledStep> label_episode(const EpisodeRecord& episode, const LabelRules& rules);

/// Whether the command to the gripper changed between two actions. `gripper` as gripper_dimensions gives it.
bool gripper_differs(const Action& before, const Action& action, std::span<const int64_t> gripper);

/// Counts by "label: reason" over episodes, for reports; beside them "take-over: whole window",
/// "take-over: window cut short", "take-over: no negatives" and "take-over: nothing to imitate" count
/// take-overs, which are no label (the last counts some of the others again, as "take-over: onset not found"
/// does).
using LabelCounts = std::map<std::string, int64_t>;
void count_labels(std::span<const LabelledStep> steps, LabelCounts& counts);

/// Why a source of which filters leave out `left_out` (by reason) of `imitable` steps must not be learned
/// from; empty if that is no more than `max_share` of them.
std::string mostly_filtered(const std::string& source, int64_t imitable,
                            const std::map<std::string, int64_t>& left_out, const FilterOptions& filter);

}  // namespace apo::data
