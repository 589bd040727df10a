// Small recordings made on the spot for the tests of the data room.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/error.h"
#include "apo/base/types.h"
#include "apo/data/trajectory.h"
#include "data/hdf5.h"
#include "support/message_of.h"

namespace apo::data {

using apo::testing::message_of;

inline TrajectoryInfo test_info() {
  return {.environment_name = "tabletop",
          .environment_config = "task: lift\n",
          .policy = "policies/base",
          .policy_hash = "0123456789abcdef"};
}

/// A step whose every number tells which step it is: pixels (7 * id + i) mod 256, action ((id mod 10) / 10,
/// 0.5, 1).
inline Step numbered_step(int64_t id, ActionSource source = ActionSource::policy) {
  Step step;
  at::Tensor image =
      at::arange(6 * 5 * 3, at::kLong).add(7 * id).remainder(256).to(at::kByte).reshape({6, 5, 3});
  step.observation.images["front"] = image;
  step.observation.state["joints"] = {static_cast<float>(id), 0.25f};
  step.action = {static_cast<float>(id % 10) / 10.0f, 0.5f, 1.0f};
  step.source = source;
  step.reward = static_cast<float>(id) / 2;
  return step;
}

inline ActionSource source_of(char letter) {
  return letter == 'e'   ? ActionSource::expert
         : letter == 'p' ? ActionSource::policy
                         : ActionSource::intervention;
}

/// An episode without pictures, one letter a step: e expert, p policy, h human, s marked skipped, - policy
/// without motion, H human without motion, ! policy out of range. The action of step i is (0.1 + i / 100, 0,
/// 1).
inline EpisodeRecord episode_record(const std::string& steps) {
  EpisodeRecord record;
  record.name = "demo_0";
  record.instruction = "lift the cube";
  for (size_t i = 0; i < steps.size(); ++i) {
    const char c = steps[i];
    Action action{0.1f + static_cast<float>(i) / 100.0f, 0.0f, 1.0f};
    if (c == '-' || c == 'H') action[0] = 0.01f;
    if (c == '!') action[0] = 1.5f;
    record.actions.push_back(action);
    record.sources.push_back(c == 'e'               ? ActionSource::expert
                             : c == 'h' || c == 'H' ? ActionSource::intervention
                                                    : ActionSource::policy);
    record.recorded.push_back(c != 's');
    record.desirable.emplace_back();
    record.policy_actions.emplace_back();
  }
  return record;
}

/// Writes a file of ours with one episode for each text of letters (e, p, h as above).
inline void write_recording(const std::filesystem::path& path, const std::vector<std::string>& episodes,
                            const std::string& instruction = "lift the cube",
                            std::optional<bool> success = std::nullopt) {
  TrajectoryWriter writer(path, test_info());
  int64_t id = 0;
  for (const std::string& letters : episodes) {
    writer.begin_episode(instruction);
    for (const char letter : letters) writer.append(numbered_step(id++, source_of(letter)));
    writer.end_episode(success, success ? (*success ? "success" : "timeout") : "");
  }
}

/// A robomimic file of one demonstration of six steps: a camera front, and a camera wrist whose row 3 is no
/// picture.
inline void write_damaged_wrist(const std::filesystem::path& path) {
  hdf5::Group data = hdf5::Group::create(path).create_group("data");
  data.set_attribute("task_description", "lift the cube");
  hdf5::Group demo = data.create_group("demo_0");
  std::vector<float> actions, wrist;
  std::vector<uint8_t> front;
  for (int i = 0; i < 6; ++i) actions.insert(actions.end(), {0.5f, 0.1f * static_cast<float>(i), 1.0f});
  for (int i = 0; i < 6 * 48; ++i) {
    front.push_back(static_cast<uint8_t>(i % 251));
    wrist.push_back(static_cast<float>(i % 100) / 100.0f);
  }
  wrist[3 * 48] = 1.5f;
  demo.write("actions", actions, {6, 3});
  hdf5::Group obs = demo.create_group("obs");
  obs.write("front_image", front, {6, 4, 4, 3});
  obs.write("wrist_image", wrist, {6, 4, 4, 3});
}

inline std::string data_error(const std::function<void()>& act) { return message_of<DataError>(act); }
inline std::string config_error(const std::function<void()>& act) { return message_of<ConfigError>(act); }

}  // namespace apo::data
