#include "apo/data/labels.h"

#include <algorithm>
#include <cmath>

#include "apo/base/error.h"

namespace apo::data {
namespace {

// Why a filter leaves a step out; empty if none does.
std::string_view filtered(const Action& action, const FilterOptions& filter) {
  double motion = 0;
  const size_t moving = action.size() > 1 ? action.size() - 1 : action.size();  // the last one is the gripper
  for (size_t j = 0; j < action.size(); ++j) {
    const double size = std::abs(static_cast<double>(action[j]));
    if (size > filter.max_abs_action) return "action out of range";
    if (j < moving) motion += size;
  }
  return motion < filter.min_motion ? "no motion" : "";
}

// One pass over the kept steps of an episode of interactions.
class Labeller {
 public:
  Labeller(const EpisodeRecord& episode, const LabelOptions& options, std::vector<size_t> kept,
           std::vector<LabelledStep>& steps)
      : episode_(episode), options_(options), kept_(std::move(kept)), steps_(steps) {}

  void run() {
    for (size_t k = 0; k < kept_.size(); ++k) {
      const size_t i = kept_[k];
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
  void mark(size_t i, StepLabel label, std::string_view reason) {
    steps_[i].label = label;
    steps_[i].reason = reason;
  }
  size_t window_begin() const {
    const auto length = static_cast<size_t>(options_.steps_before_intervention);
    return window_.size() - std::min(window_.size(), length);
  }

  void take_over(size_t k) {
    const std::vector<double> human = mean_human_action(k);
    for (size_t w = window_begin(); w < window_.size(); ++w) {
      const size_t i = window_[w];
      mark(i, StepLabel::undesirable, "before take-over");
      steps_[i].take_over_number = num_take_overs_;
      for (size_t j = 0; j < human.size(); ++j)
        steps_[i].dimension_credit.push_back(
            static_cast<float>(std::min(1.0, std::abs(static_cast<double>(episode_.actions[i][j]) - human[j]))));
    }
    LabelledStep& first = steps_[kept_[k]];
    first.take_over = true;
    first.window_cut_short = static_cast<int64_t>(window_.size()) < options_.steps_before_intervention;
    window_.clear();
    ++num_take_overs_;
  }

  // Over the first `credit_actions` kept human actions from kept step `k` on.
  std::vector<double> mean_human_action(size_t k) const {
    std::vector<double> mean(episode_.actions[kept_[k]].size(), 0.0);
    int64_t n = 0;
    for (; k < kept_.size() && n < options_.credit_actions; ++k, ++n) {
      if (episode_.sources[kept_[k]] != ActionSource::intervention) break;
      for (size_t j = 0; j < mean.size(); ++j) mean[j] += static_cast<double>(episode_.actions[kept_[k]][j]);
    }
    for (double& m : mean) m /= static_cast<double>(std::max<int64_t>(n, 1));
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
  const std::vector<size_t> kept_;
  std::vector<LabelledStep>& steps_;
  std::vector<size_t> window_;   // kept policy steps since the last intervention or the episode's start
  bool human_acts_ = false;
  int32_t num_take_overs_ = 0;
};

void apply_explicit(const EpisodeRecord& episode, size_t i, bool is_expert, LabelledStep& step) {
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

}  // namespace

std::string_view to_string(StepLabel label) {
  switch (label) {
    case StepLabel::desirable: return "desirable";
    case StepLabel::undesirable: return "undesirable";
    case StepLabel::intervention: return "intervention";
    case StepLabel::skipped: return "skipped";
  }
  return "unknown";
}

std::vector<LabelledStep> label_episode(const EpisodeRecord& episode, bool is_expert, const LabelOptions& labels,
                                        const FilterOptions& filter) {
  const size_t n = episode.actions.size();
  APO_ASSERT(episode.sources.size() == n && episode.recorded.size() == n && episode.desirable.size() == n);
  std::vector<LabelledStep> steps(n);
  std::vector<size_t> kept;
  for (size_t i = 0; i < n; ++i) {
    const std::string_view why = episode.recorded[i] ? filtered(episode.actions[i], filter) : "marked skipped";
    steps[i].label = StepLabel::skipped;
    steps[i].reason = why;
    if (why.empty()) kept.push_back(i);
  }
  if (is_expert) {
    for (const size_t i : kept) {
      steps[i].label = StepLabel::desirable;
      steps[i].reason = "demonstration";
    }
  } else {
    Labeller(episode, labels, kept, steps).run();
  }
  for (const size_t i : kept) apply_explicit(episode, i, is_expert, steps[i]);
  return steps;
}

void count_labels(std::span<const LabelledStep> steps, LabelCounts& counts) {
  for (const LabelledStep& step : steps) {
    ++counts[concat(to_string(step.label), ": ", step.reason)];
    if (step.take_over) ++counts[step.window_cut_short ? "take-over: window cut short" : "take-over: whole window"];
  }
}

}  // namespace apo::data
