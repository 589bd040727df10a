// Writes episodes in our own layout.
#include <torch/types.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "data/layouts.h"
#include "data/seal.h"

namespace apo::data {
namespace {

using hdf5::Group;

template <class T, class Get>
std::vector<T> column(const Episode& episode, Get get) {
  std::vector<T> values;
  for (const Step& step : episode.steps) get(step, values);
  return values;
}

// The pictures of one camera, one after the other.
struct PictureColumn {
  hdf5::RowWriter pixels;
  std::vector<int64_t> hashes;
};

void write_pictures(Group& demo, Group& observations, const Episode& episode, const ImagesOfStep& images_of) {
  const auto steps = static_cast<int64_t>(episode.steps.size());
  std::map<std::string, PictureColumn> columns;
  for (size_t i = 0; i < episode.steps.size(); ++i) {
    const auto images = images_of ? images_of(i) : episode.steps[i].observation.images;
    for (const auto& [name, image] : images) {
      if (i == 0)
        columns.emplace(
            name, PictureColumn{
                      observations.make_rows(name + "_image", {steps, image.size(0), image.size(1), 3}), {}});
      PictureColumn& column = columns.at(name);
      const at::Tensor plain = image.contiguous();
      column.pixels.append({static_cast<const uint8_t*>(plain.const_data_ptr()), plain.nbytes()});
      column.hashes.push_back(picture_hash(plain));
    }
  }
  for (const auto& [name, column] : columns)
    demo.write(picture_hash_name(name + "_image"), std::span<const int64_t>(column.hashes), {steps});
}

void write_observations(Group& demo, const Episode& episode, const ImagesOfStep& images_of) {
  const auto steps = static_cast<int64_t>(episode.steps.size());
  Group observations = demo.create_group("obs");
  write_pictures(demo, observations, episode, images_of);
  for (const auto& [name, first] : episode.steps[0].observation.state) {
    const auto values = column<float>(episode, [&name = name](const Step& step, auto& out) {
      const auto& state = step.observation.state.at(name);
      out.insert(out.end(), state.begin(), state.end());
    });
    observations.write(name, values, {steps, static_cast<int64_t>(first.size())});
  }
}

// policy_action [S, A] with zeros and policy_action_valid 0 where there is none: no NaN ever reaches a file.
void write_policy_actions(Group& demo, const Episode& episode) {
  const auto steps = static_cast<int64_t>(episode.steps.size());
  const size_t width = episode.steps[0].action.size();
  const auto valid = column<int8_t>(episode, [](const Step& step, auto& out) {
    out.push_back(static_cast<int8_t>(step.policy_action.has_value()));
  });
  if (std::count(valid.begin(), valid.end(), 0) == steps) return;
  const auto values = column<float>(episode, [width](const Step& step, auto& out) {
    const Action action = step.policy_action.value_or(Action(width, 0.0f));
    out.insert(out.end(), action.begin(), action.end());
  });
  demo.write("policy_action", values, {steps, static_cast<int64_t>(width)});
  demo.write("policy_action_valid", valid, {steps});
}

// decision_offset [S], -1 where nobody asked the policy; left out where that is everywhere.
void write_decision_offsets(Group& demo, const Episode& episode) {
  const auto offsets = column<int64_t>(
      episode, [](const Step& step, auto& out) { out.push_back(step.decision_offset.value_or(-1)); });
  const auto steps = static_cast<int64_t>(episode.steps.size());
  if (std::count(offsets.begin(), offsets.end(), -1) != steps)
    demo.write("decision_offset", offsets, {steps});
}

std::vector<RecordedTakeOver> take_overs_of(const Episode& episode) {
  std::vector<RecordedTakeOver> take_overs;
  for (size_t i = 0; i < episode.steps.size(); ++i) {
    const auto& take_over = episode.steps[i].take_over;
    const auto timestep = static_cast<int64_t>(i);
    if (take_over)
      take_overs.push_back(
          {timestep, take_over->reason, std::clamp<int64_t>(timestep - take_over->steps_held, 0, timestep)});
  }
  return take_overs;
}

void write_take_overs(Group& demo, const Episode& episode) {
  const std::vector<RecordedTakeOver> take_overs = take_overs_of(episode);
  if (take_overs.empty()) return;
  std::vector<int64_t> timesteps, since;
  std::vector<std::string> reasons;
  for (const RecordedTakeOver& take_over : take_overs) {
    timesteps.push_back(take_over.timestep);
    since.push_back(take_over.since);
    reasons.push_back(take_over.reason);
  }
  const auto n = static_cast<int64_t>(take_overs.size());
  demo.write(kTakeOverTimestep, std::span<const int64_t>(timesteps), {n});
  demo.write_texts(kTakeOverReason, reasons);
  demo.write(kTakeOverSince, std::span<const int64_t>(since), {n});
}

// robomimic's states [S, D] and model_file.
void write_playback(Group& demo, const Episode& episode, const Playback& playback) {
  if (!playback.model.empty()) demo.set_long_attribute("model_file", playback.model);
  if (playback.states.empty()) return;
  APO_ASSERT(playback.states.size() == episode.steps.size());
  std::vector<double> states;
  for (const std::vector<double>& state : playback.states)
    states.insert(states.end(), state.begin(), state.end());
  demo.write("states", std::span<const double>(states),
             {static_cast<int64_t>(playback.states.size()), static_cast<int64_t>(playback.states[0].size())});
}

}  // namespace

void write_episode(Group& data, int64_t number, const Episode& episode, const std::string& policy_hash,
                   const std::vector<bool>& recorded, const std::vector<bool>& neither,
                   const ImagesOfStep& images, const Playback& playback) {
  APO_ASSERT(!episode.steps.empty());
  hdf5::Session session;
  const auto steps = static_cast<int64_t>(episode.steps.size());
  const std::string name = concat("demo_", number);
  Group demo = playback.model.size() < kLongestAttribute ? data.create_group(name)
                                                         : data.create_group_for_long_attributes(name);
  demo.set_attribute("num_samples", steps);
  demo.set_attribute("task_description", episode.instruction);
  demo.set_attribute("outcome", episode.outcome);
  if (!policy_hash.empty()) demo.set_attribute("policy_hash", policy_hash);
  if (episode.success) demo.set_attribute("success", static_cast<int64_t>(*episode.success));
  demo.write("actions",
             column<float>(episode,
                           [](const Step& step, auto& out) {
                             out.insert(out.end(), step.action.begin(), step.action.end());
                           }),
             {steps, static_cast<int64_t>(episode.steps[0].action.size())});
  demo.write("rewards",
             column<float>(episode, [](const Step& step, auto& out) { out.push_back(step.reward); }),
             {steps});
  demo.write("dones", column<int8_t>(episode, [](const Step& step, auto& out) { out.push_back(step.done); }),
             {steps});
  auto sources = column<int8_t>(
      episode, [](const Step& step, auto& out) { out.push_back(static_cast<int8_t>(step.source)); });
  for (size_t i = 0; i < recorded.size(); ++i)
    if (!recorded[i]) sources[i] = -1;
  demo.write("action_source", sources, {steps});
  auto labels = column<int8_t>(episode, [](const Step& step, auto& out) {
    out.push_back(step.desirable ? static_cast<int8_t>(*step.desirable) : int8_t{-1});
  });
  for (size_t i = 0; i < neither.size(); ++i)
    if (neither[i]) labels[i] = -2;
  if (std::count(labels.begin(), labels.end(), -1) != steps) demo.write("desirable", labels, {steps});
  write_policy_actions(demo, episode);
  write_decision_offsets(demo, episode);
  write_take_overs(demo, episode);
  write_observations(demo, episode, images);
  write_playback(demo, episode, playback);
  seal_episode(demo);
}

EpisodeRecord record_of(const Episode& episode, const std::string& name) {
  EpisodeRecord record;
  record.name = name;
  record.instruction = episode.instruction;
  record.success = episode.success;
  record.outcome = episode.outcome;
  for (const Step& step : episode.steps) {
    record.actions.push_back(step.action);
    record.sources.push_back(step.source);
    record.recorded.push_back(true);
    record.desirable.push_back(step.desirable);
    record.policy_actions.push_back(step.policy_action);
    record.decision_offsets.push_back(step.decision_offset);
  }
  record.take_overs = take_overs_of(episode);
  if (episode.steps.empty()) return record;
  for (const auto& [name, image] : episode.steps[0].observation.images)
    record.cameras[name] = {image.size(0), image.size(1)};
  for (const auto& [name, values] : episode.steps[0].observation.state)
    record.states[name] = static_cast<int64_t>(values.size());
  for (const auto& [name, size] : record.cameras) record.observation_names.push_back(name);
  for (const auto& [name, width] : record.states) record.observation_names.push_back(name);
  std::sort(record.observation_names.begin(), record.observation_names.end());
  return record;
}

void write_info(Group& data, const TrajectoryInfo& info) {
  hdf5::Session session;
  // robomimic wants env_name, type and env_kwargs; type 2 is "a gym-like environment"
  const nlohmann::json arguments = {{"env_name", info.environment_name},
                                    {"type", 2},
                                    {"env_version", ""},
                                    {"env_kwargs", {{"config", info.environment_config}}}};
  data.set_attribute("total", int64_t{0});
  data.set_attribute("env_args",
                     info.env_args.empty()
                         ? arguments.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                         : info.env_args);
  data.set_attribute("policy", info.policy);
  data.set_attribute("policy_hash", info.policy_hash);
  data.set_attribute(kSchemaAttribute, kSchemaVersion);
  seal_info(data);
}

}  // namespace apo::data
