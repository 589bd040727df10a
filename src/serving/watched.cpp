#include "serving/watched.h"

#include <torch/types.h>

#include <algorithm>
#include <charconv>

#include "apo/base/error.h"

namespace apo::serving {
namespace {

constexpr size_t kMost = 500;          // that pages are told of
constexpr int64_t kRelabelEvery = 32;  // steps: labels of a whole episode are counted anew, for its filters

char letter_of_label(const data::LabelledStep& step) {
  if (step.filtered) return '-';
  switch (step.label) {
    case data::StepLabel::desirable:
      return 'd';
    case data::StepLabel::undesirable:
      return 'u';
    case data::StepLabel::intervention:
      return 'i';
    default:
      return 'n';
  }
}

PoolSizes pools_of(const std::vector<data::LabelledStep>& labels) {
  PoolSizes pools;
  for (const data::LabelledStep& step : labels) {
    if (step.filtered) continue;
    pools.desirable += step.label == data::StepLabel::desirable;
    pools.intervention += step.label == data::StepLabel::intervention;
    pools.undesirable += step.label == data::StepLabel::undesirable;
  }
  return pools;
}

void add_step(data::EpisodeRecord& record, const Step& step) {
  if (step.take_over) {
    const int64_t now = record.num_steps();
    record.take_overs.push_back(
        {now, step.take_over->reason, std::max<int64_t>(now - step.take_over->steps_held, 0)});
  }
  record.actions.push_back(step.action);
  record.sources.push_back(step.source);
  record.recorded.push_back(true);
  record.desirable.emplace_back();
  record.policy_actions.push_back(step.policy_action);
  record.decision_offsets.push_back(step.decision_offset);
}

}  // namespace

char letter_of(ActionSource source) {
  return source == ActionSource::expert ? 'e' : source == ActionSource::policy ? 'p' : 'h';
}

void WatchedEpisodes::begin(const std::string& key) {
  if (episodes_.size() >= kMost) episodes_.pop_front();
  episodes_.push_back({.key = key, .name = concat("demo_", next_number_++)});
}

void WatchedEpisodes::add(const Step& step, bool labelled) {
  data::EpisodeRecord& record = now().record;
  const bool as_before = !record.sources.empty() && record.sources.back() == step.source;
  add_step(record, step);
  if (!labelled) return;
  // what came before changes with a take-over alone
  const bool grown = as_before && std::ssize(now().labels) + 1 == record.num_steps();
  if (grown && record.num_steps() % kRelabelEvery != 0)
    append_label();
  else
    relabel();
}

// As the step before, until all are labelled anew.
void WatchedEpisodes::append_label() {
  WatchedEpisode& episode = now();
  const bool human = episode.record.sources.back() == ActionSource::intervention;
  data::LabelledStep step;
  step.label = human ? data::StepLabel::intervention : data::StepLabel::desirable;
  if (human) step.take_over_number = episode.labels.back().take_over_number;
  episode.labels.push_back(std::move(step));
  ++(human ? episode.pools.intervention : episode.pools.desirable);
  ++(human ? pools_.intervention : pools_.desirable);
}

void WatchedEpisodes::relabel() {
  if (empty() || now().record.num_steps() == 0) return;
  WatchedEpisode& episode = now();
  episode.labels = data::label_episode(episode.record, rules_);
  const PoolSizes before = std::exchange(episode.pools, pools_of(episode.labels));
  pools_.desirable += episode.pools.desirable - before.desirable;
  pools_.intervention += episode.pools.intervention - before.intervention;
  pools_.undesirable += episode.pools.undesirable - before.undesirable;
}

void WatchedEpisodes::end(std::optional<bool> success, const std::string& outcome,
                          std::optional<int64_t> recording) {
  if (now().record.num_steps() == 0) {
    episodes_.pop_back();
    --next_number_;
    return;
  }
  now().running = false;
  now().recording = recording;
  now().record.success = success;
  now().record.outcome = outcome;
  relabel();
}

// With several robots the guess of its name may have been wrong.
bool WatchedEpisodes::joined(int64_t recording, const std::string& name) {
  int64_t number = 0;
  std::from_chars(name.data() + name.find('_') + 1, name.data() + name.size(), number);
  next_number_ = std::max(next_number_, number + 1);
  const auto found = std::ranges::find(episodes_, std::optional(recording), &WatchedEpisode::recording);
  if (found == episodes_.end() || found->name == name) return false;
  found->name = name;
  return true;
}

std::string WatchedEpisodes::label(const std::string& name, int64_t step) const {
  for (const WatchedEpisode& episode : episodes_)
    if (episode.name == name && step >= 0 && step < std::ssize(episode.labels))
      return {letter_of_label(episode.labels[static_cast<size_t>(step)])};
  return "";
}

std::optional<std::pair<int64_t, int64_t>> WatchedEpisodes::last_window() const {
  if (empty()) return std::nullopt;
  const std::vector<data::LabelledStep>& labels = now().labels;
  int64_t last = -1;
  for (const data::LabelledStep& step : labels)
    if (step.take_over) last = step.take_over_number;
  std::optional<std::pair<int64_t, int64_t>> window;
  for (size_t t = 0; t < labels.size(); ++t) {
    const data::LabelledStep& step = labels[t];
    if (last < 0 || step.take_over_number != last || step.label != data::StepLabel::undesirable) continue;
    const auto at = static_cast<int64_t>(t);
    window = {window ? window->first : at, at + 1};
  }
  return window;
}

WatchedEpisodes::Json WatchedEpisodes::json() const {
  Json list = Json::array();
  for (const WatchedEpisode& episode : episodes_) {
    std::string sources, labels;
    for (const ActionSource source : episode.record.sources) sources += letter_of(source);
    for (const data::LabelledStep& step : episode.labels) labels += letter_of_label(step);
    const std::optional<bool>& success = episode.record.success;
    list.push_back({{"name", episode.name},
                    {"steps", episode.record.num_steps()},
                    {"success", success ? Json(*success) : Json()},
                    {"outcome", episode.record.outcome},
                    {"instruction", episode.record.instruction},
                    {"sources", sources},
                    {"labels", labels},
                    {"running", episode.running}});
  }
  return list;
}

}  // namespace apo::serving
