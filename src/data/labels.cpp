#include "apo/data/labels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>

#include "apo/base/error.h"
#include "data/onset.h"

namespace apo::data {
namespace {

bool is_gripper(const std::vector<int64_t>& gripper, size_t dimension) {
  return std::binary_search(gripper.begin(), gripper.end(), static_cast<int64_t>(dimension));
}

// NaN moves.
bool rests(const Action& action, const LabelRules& rules, const std::vector<int64_t>& gripper) {
  double motion = 0;
  for (size_t j = 0; j < action.size(); ++j)
    if (!is_gripper(gripper, j)) motion += std::abs(static_cast<double>(action[j]));
  return motion < rules.filter.min_motion;
}

// Why a filter leaves a step out; empty if none does. `before` is the recorded action before, or nullptr.
std::string_view filtered(const Action& action, const Action* before, const LabelRules& rules,
                          const std::vector<int64_t>& gripper) {
  for (const float a : action)
    if (std::abs(static_cast<double>(a)) > rules.filter.max_abs_action) return "action out of range";
  if (!rests(action, rules, gripper)) return "";
  const bool arm_alone = rules.compatibility == DataCompatibility::released_code;
  return !arm_alone && before != nullptr && gripper_differs(*before, action, gripper) ? "" : "idle";
}

// One pass over an episode of interactions; `stream` are the steps that count.
class Labeller {
 public:
  Labeller(const EpisodeRecord& episode, const LabelRules& rules, const std::vector<size_t>& stream,
           const std::vector<int64_t>& gripper, std::vector<LabelledStep>& steps)
      : episode_(episode),
        options_(rules.labels),
        min_motion_(rules.filter.min_motion),
        gripper_(gripper),
        reasons_count_(rules.compatibility == DataCompatibility::paper ||
                       !options_.undesirable_reasons.empty()),
        stream_(stream),
        steps_(steps) {}

  void run() {
    for (size_t k = 0; k < stream_.size(); ++k) {
      const size_t i = stream_[k];
      switch (episode_.sources[i]) {
        case ActionSource::expert:
          mark(i, StepLabel::desirable, "demonstration");
          break;
        case ActionSource::policy:
          mark(i, StepLabel::desirable, "policy");
          window_.push_back(i);
          human_acts_ = false;
          break;
        case ActionSource::intervention:
          mark(i, StepLabel::intervention, "human correction");
          if (!human_acts_) take_over(k);
          human_acts_ = true;
          steps_[i].take_over_number = num_take_overs_ - 1;
          break;
      }
    }
    if (episode_.success == false) failed_tail();
  }

 private:
  void mark(size_t i, StepLabel label, std::string reason) {
    steps_[i].label = label;
    steps_[i].reason = std::move(reason);
  }
  // The last K steps.
  size_t window_begin() const {
    const auto length = static_cast<size_t>(options_.steps_before_intervention);
    return window_.size() - std::min(window_.size(), length);
  }
  // The estimated length of the window before step `k` of the stream; nullopt: it is K.
  std::optional<int64_t> onset_window(size_t k, const RecordedTakeOver* why) const {
    if (options_.window != LabelWindow::onset) return std::nullopt;
    std::optional<int64_t> since;
    if (why != nullptr) since = why->since;
    return estimate_window(
        {episode_, window_, human_steps(k), gripper_, since, min_motion_, options_.max_window});
  }

  void take_over(size_t k) {
    const RecordedTakeOver* why =
        reasons_count_ ? find_take_over(episode_, static_cast<int64_t>(stream_[k])) : nullptr;
    const bool negatives = why == nullptr || makes_negatives(why->reason);
    const std::vector<double> human = mean_human_action(k);
    const std::optional<int64_t> estimated = onset_window(k, why);
    const size_t begin = estimated ? window_.size() - static_cast<size_t>(*estimated) : window_begin();
    for (size_t w = 0; w < window_.size(); ++w) {
      const bool inside = w >= begin;
      if (inside && negatives)
        blame(window_[w], human);
      else if (why != nullptr && (inside || static_cast<int64_t>(window_[w]) >= why->since))
        mark(window_[w], StepLabel::skipped,
             why->reason.empty() ? "before take-over" : concat("before take-over, ", why->reason));
    }
    LabelledStep& first = steps_[stream_[k]];
    first.take_over = true;
    first.no_negatives = !negatives;
    first.window_steps = static_cast<int32_t>(window_.size() - begin);
    first.onset_not_found = options_.window == LabelWindow::onset && !estimated;
    first.window_cut_short =
        negatives && std::ssize(window_) < (estimated ? 1 : options_.steps_before_intervention);
    window_.clear();
    ++num_take_overs_;
  }

  bool makes_negatives(const std::string& reason) const {
    const auto& named = options_.undesirable_reasons;
    if (reason.empty()) return true;
    if (named.empty())
      return std::find(kReasonsOfTime.begin(), kReasonsOfTime.end(), reason) == kReasonsOfTime.end();
    return std::find(named.begin(), named.end(), reason) != named.end();
  }

  void blame(size_t i, const std::vector<double>& human) {
    mark(i, StepLabel::undesirable, "before take-over");
    steps_[i].take_over_number = num_take_overs_;
    for (size_t j = 0; j < human.size(); ++j)
      steps_[i].dimension_credit.push_back(static_cast<float>(
          std::min(1.0, std::abs(static_cast<double>(episode_.actions[i][j]) - human[j]))));
  }

  // The human's first `credit_actions` steps from step `k` of the stream on.
  std::span<const size_t> human_steps(size_t k) const {
    const size_t first = k;
    while (k < stream_.size() && static_cast<int64_t>(k - first) < options_.credit_actions &&
           episode_.sources[stream_[k]] == ActionSource::intervention)
      ++k;
    return {stream_.data() + first, k - first};
  }

  std::vector<double> mean_human_action(size_t k) const {
    std::vector<double> mean(episode_.actions[stream_[k]].size(), 0.0);
    const std::span<const size_t> human = human_steps(k);
    for (const size_t i : human)
      for (size_t j = 0; j < mean.size(); ++j) mean[j] += static_cast<double>(episode_.actions[i][j]);
    for (double& m : mean) m /= static_cast<double>(std::max<size_t>(human.size(), 1));
    return mean;
  }

  // What the policy did after the last intervention of an episode that failed.
  void failed_tail() {
    if (options_.failed_episodes == FailedEpisodes::keep) return;
    for (const size_t i : window_) mark(i, StepLabel::skipped, "failed episode");
    if (options_.failed_episodes == FailedEpisodes::undesirable_tail)
      for (size_t w = window_begin(); w < window_.size(); ++w)
        mark(window_[w], StepLabel::undesirable, "end of a failed episode");
  }

  const EpisodeRecord& episode_;
  const LabelOptions& options_;
  const double min_motion_;
  const std::vector<int64_t>& gripper_;
  const bool reasons_count_;
  const std::vector<size_t>& stream_;
  std::vector<LabelledStep>& steps_;
  std::vector<size_t> window_;  // policy steps since the last intervention or the episode's start
  bool human_acts_ = false;
  int32_t num_take_overs_ = 0;
};

void apply_explicit(const EpisodeRecord& episode, size_t i, bool is_expert, LabelledStep& step) {
  if (!episode.neither.empty() && episode.neither[i]) {
    step.label = StepLabel::skipped;
    step.reason = "explicit";
    step.take_over_number = -1;
    step.dimension_credit.clear();
    return;
  }
  if (!episode.desirable[i]) return;
  step.reason = "explicit";
  const bool human_step = episode.sources[i] == ActionSource::intervention;
  if (*episode.desirable[i] != human_step) step.take_over_number = -1;  // on the other side of no pair
  if (!*episode.desirable[i]) {
    step.label = StepLabel::undesirable;
    return;
  }
  const bool human = !is_expert && episode.sources[i] == ActionSource::intervention;
  step.label = human ? StepLabel::intervention : StepLabel::desirable;
  step.dimension_credit.clear();
}

// What is not imitated is not filtered.
void leave_out(std::string_view reason, LabelledStep& step) {
  if (step.label != StepLabel::desirable && step.label != StepLabel::intervention) return;
  step.label = StepLabel::skipped;
  step.reason = reason;
  step.filtered = true;
}

void find_nothing_to_imitate(std::vector<LabelledStep>& steps) {
  LabelledStep* first = nullptr;  // of the take-over that the human's steps belong to
  for (LabelledStep& step : steps) {
    if (step.take_over) {
      first = &step;
      first->nothing_to_imitate = true;
    }
    if (first != nullptr && step.label == StepLabel::intervention) first->nothing_to_imitate = false;
  }
}

}  // namespace

std::string_view to_string(StepLabel label) {
  switch (label) {
    case StepLabel::desirable:
      return "desirable";
    case StepLabel::undesirable:
      return "undesirable";
    case StepLabel::intervention:
      return "intervention";
    case StepLabel::skipped:
      return "skipped";
  }
  return "unknown";
}

std::span<const std::pair<DataCompatibility, std::string_view>> enum_names(DataCompatibility) {
  static constexpr std::array<std::pair<DataCompatibility, std::string_view>, 2> names{
      {{DataCompatibility::paper, "paper"}, {DataCompatibility::released_code, "released-code"}}};
  return names;
}

std::vector<Action> imitated_actions(const EpisodeRecord& episode, const LabelRules& rules) {
  std::vector<Action> actions = episode.actions;
  if (rules.is_expert || rules.filter.look_ahead <= 1 || actions.empty()) return actions;
  const size_t size = actions.front().size();
  const std::vector<int64_t> gripper = gripper_dimensions(rules.gripper, static_cast<int64_t>(size));
  const auto human = [&](size_t i) {
    return episode.recorded[i] && episode.sources[i] == ActionSource::intervention;
  };
  for (size_t i = 0; i < actions.size(); ++i) {
    const Action& own = episode.actions[i];
    if (!human(i) || rests(own, rules, gripper)) continue;
    const size_t end = std::min(actions.size(), i + static_cast<size_t>(rules.filter.look_ahead));
    std::vector<double> sum(size, 0.0);
    for (size_t k = i; k < end && human(k) && !gripper_differs(own, episode.actions[k], gripper); ++k)
      for (size_t j = 0; j < size; ++j) sum[j] += static_cast<double>(episode.actions[k][j]);
    double too_far = 1;
    for (size_t j = 0; j < size; ++j)
      if (!is_gripper(gripper, j))
        too_far = std::max(too_far, std::abs(sum[j]) / std::max(1.0, std::abs(static_cast<double>(own[j]))));
    for (size_t j = 0; j < size; ++j)
      if (!is_gripper(gripper, j)) actions[i][j] = static_cast<float>(sum[j] / too_far);
  }
  return actions;
}

namespace {

// Of an episode whose actions are those that are imitated.
std::vector<LabelledStep> label_imitated(const EpisodeRecord& episode, const LabelRules& rules) {
  const size_t n = episode.actions.size();
  APO_ASSERT(episode.sources.size() == n && episode.recorded.size() == n && episode.desirable.size() == n);
  APO_ASSERT(episode.neither.empty() || episode.neither.size() == n);
  const bool filters_first = rules.compatibility == DataCompatibility::released_code;
  std::vector<int64_t> gripper;
  if (n > 0) gripper = gripper_dimensions(rules.gripper, static_cast<int64_t>(episode.actions[0].size()));
  std::vector<LabelledStep> steps(n);
  std::vector<std::string_view> why(n);  // a filter leaves a step out
  std::vector<size_t> stream;            // the steps that count
  const Action* before = nullptr;
  for (size_t i = 0; i < n; ++i) {
    steps[i].reason = "marked skipped";
    if (!episode.recorded[i]) continue;
    why[i] = filtered(episode.actions[i], std::exchange(before, &episode.actions[i]), rules, gripper);
    if (why[i].empty() || !filters_first) {
      stream.push_back(i);
    } else {
      steps[i].reason = why[i];
      steps[i].filtered = true;
    }
  }
  if (rules.is_expert) {
    const bool drop = rules.labels.failed_demonstrations == FailedDemonstrations::drop;
    const bool failed = drop && episode.success == false;
    for (const size_t i : stream) {
      steps[i].label = failed ? StepLabel::skipped : StepLabel::desirable;
      steps[i].reason = failed ? "failed demonstration" : "demonstration";
    }
  } else {
    Labeller(episode, rules, stream, gripper, steps).run();
  }
  for (const size_t i : stream) {
    apply_explicit(episode, i, rules.is_expert, steps[i]);
    if (!why[i].empty()) leave_out(why[i], steps[i]);
  }
  find_nothing_to_imitate(steps);
  return steps;
}

}  // namespace

std::vector<LabelledStep> label_episode(const EpisodeRecord& episode, const LabelRules& rules) {
  if (rules.filter.look_ahead <= 1) return label_imitated(episode, rules);
  EpisodeRecord imitated = episode;
  imitated.actions = imitated_actions(episode, rules);
  return label_imitated(imitated, rules);
}

bool gripper_differs(const Action& before, const Action& action, std::span<const int64_t> gripper) {
  APO_ASSERT(before.size() == action.size());
  return std::any_of(gripper.begin(), gripper.end(), [&](int64_t j) {
    return before.at(static_cast<size_t>(j)) != action.at(static_cast<size_t>(j));
  });
}

std::string mostly_filtered(const std::string& source, int64_t imitable,
                            const std::map<std::string, int64_t>& left_out, const FilterOptions& filter) {
  int64_t all = 0;
  std::string reasons;
  for (const auto& [reason, n] : left_out) {
    all += n;
    append_item(reasons, ", ", n, ' ', reason);
  }
  if (all == 0 || static_cast<double>(all) <= filter.max_share * static_cast<double>(imitable)) return "";
  return concat(source, ": filters leave out ", all, " of ", imitable, " steps that would be imitated (",
                reasons, "), expected at most a share of ", filter.max_share,
                " (data.filter.max_share): are the actions in other units than data.filter.min_motion ",
                filter.min_motion, " and data.filter.max_abs_action ", filter.max_abs_action, " expect?");
}

void count_labels(std::span<const LabelledStep> steps, LabelCounts& counts) {
  for (const LabelledStep& step : steps) {
    ++counts[concat(to_string(step.label), ": ", step.reason)];
    if (step.take_over)
      ++counts[step.no_negatives       ? "take-over: no negatives"
               : step.window_cut_short ? "take-over: window cut short"
                                       : "take-over: whole window"];
    if (step.nothing_to_imitate) ++counts["take-over: nothing to imitate"];
    if (step.onset_not_found) ++counts["take-over: onset not found"];
  }
}

}  // namespace apo::data
