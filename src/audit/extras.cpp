#include "audit/extras.h"

#include <torch/types.h>

namespace apo::audit {

ExtrasReader::ExtrasReader(const TrajectoryFile& file) {
  // The journal first: an episode that moves into the file meanwhile is then seen twice, not missed.
  if (file.format() == TrajectoryFormat::apo) journal_ = read_journal(journal_path(file.path()));
  data_ = open_data_group(file);
  for (const auto& [key, value] : file.attributes())
    if (key == "policy_hash") policy_hash_ = value;
}

Extras ExtrasReader::read(const EpisodeRecord& record) const {
  Extras extras{.rewards = {}, .dones = {}, .policy_hash = policy_hash_, .of_another_shape = {}};
  if (!data_) return extras;
  hdf5::Session session;
  if (!data_->has(record.name)) {
    for (const JournalEpisode& e : journal_) {
      if (e.number != episode_number(record.name)) continue;
      for (const Step& step : e.episode.steps) {
        extras.rewards.push_back(step.reward);
        extras.dones.push_back(step.done);
      }
      extras.policy_hash = e.policy_hash;
    }
    return extras;
  }
  const hdf5::Group demo = data_->group(record.name);
  if (const auto hash = demo.text_attribute("policy_hash")) extras.policy_hash = *hash;
  for (auto [name, values] : {std::pair{"rewards", &extras.rewards}, std::pair{"dones", &extras.dones}}) {
    if (!demo.has(name) || demo.is_group(name)) continue;
    const hdf5::Array array = demo.array(name);
    const bool numbers = array.kind() == hdf5::Kind::integer || array.kind() == hdf5::Kind::floating;
    if (numbers && array.shape() == std::vector<int64_t>{record.num_steps()})
      *values = array.floats();
    else
      extras.of_another_shape.emplace_back(name);
  }
  return extras;
}

Episode read_episode(const TrajectoryFile& file, int64_t index, const EpisodeRecord& record,
                     const Extras& extras) {
  Episode episode{
      .instruction = record.instruction, .steps = {}, .success = record.success, .outcome = record.outcome};
  for (size_t t = 0; t < record.actions.size(); ++t) {
    Step step;
    step.observation = file.observation(index, static_cast<int64_t>(t));
    step.action = record.actions[t];
    step.source = record.sources[t];
    step.policy_action = record.policy_actions[t];
    step.decision_offset = record.decision_offsets[t];
    step.desirable = record.desirable[t];
    if (t < extras.rewards.size()) step.reward = extras.rewards[t];
    step.done = t < extras.dones.size() ? extras.dones[t] != 0 : t + 1 == record.actions.size();
    episode.steps.push_back(std::move(step));
  }
  for (const RecordedTakeOver& take_over : record.take_overs)
    episode.steps.at(static_cast<size_t>(take_over.timestep)).take_over =
        TakeOver{take_over.reason, take_over.timestep - take_over.since};
  return episode;
}

}  // namespace apo::audit
