// Who is desirable: the policy's own last K steps before each take-over become undesirable.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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

struct LabelOptions {
  int64_t steps_before_intervention = 10;                  ///< K
  FailedEpisodes failed_episodes = FailedEpisodes::drop;   ///< steps after the last intervention of a failed episode
  int64_t credit_actions = 3;   ///< dimension credit: the human's first so many actions of a take-over are averaged
  void visit(config::Visitor& v);
};

struct FilterOptions {
  double max_abs_action = 1.0;   ///< a step with a larger |a| in any dimension is skipped
  double min_motion = 0.05;      ///< a step whose Σ|a| without the gripper is smaller is skipped
  void visit(config::Visitor& v);
};

struct LabelledStep {
  StepLabel label = StepLabel::skipped;
  std::string_view reason;             ///< why, a short static text, e.g. "before take-over", "explicit", "no motion"
  std::vector<float> dimension_credit; ///< [A] in [0, 1]; empty = all one (no human action known)
  bool take_over = false;              ///< the human's first kept step of an intervention
  int32_t take_over_number = -1;       ///< the episode's take-over (0, 1, ..) that a step before it leads to, and that a
                                       ///< human's step belongs to; -1: neither
  bool window_cut_short = false;       ///< at a take-over: fewer than K kept policy steps came before it
};

/// Labels one episode (in this order: filters, explicit labels, the K-step rule counted over
/// kept policy steps since the previous intervention or the episode's start, failed episodes). Pure.
///
/// Steps that the file marks as skipped or that a filter leaves out are as if they were not there: a human who did not
/// move took nothing over. NaN passes the filters (Dataset refuses it).
/// `is_expert` marks demonstrations: all their kept steps are desirable unless the file says otherwise.
/// An explicit label takes its step's place in the count of K; an explicitly desirable human step stays in the
/// intervention pool. `undesirable-tail`: of a failed episode's policy steps after the last intervention, the last K
/// become undesirable and the others are dropped.
/// dimension_credit of an undesirable step: c_j = min(1, |a_j − h_j|), h the mean of the human's first
/// `credit_actions` actions of the take-over that made it undesirable.
/// Source  APO paper, section on preference labels; released dataset/balance_apo_dataset.py.
/// Differs the released code reaches over the episode's start and into expert data; here never. Windows cut short
///         by that are counted by `count_labels`.
std::vector<LabelledStep> label_episode(const EpisodeRecord& episode, bool is_expert, const LabelOptions& labels,
                                        const FilterOptions& filter);

/// Counts by "label: reason" over episodes, for reports; beside them "take-over: whole window" and
/// "take-over: window cut short" count take-overs, which are no label.
using LabelCounts = std::map<std::string, int64_t>;
void count_labels(std::span<const LabelledStep> steps, LabelCounts& counts);

}  // namespace apo::data
