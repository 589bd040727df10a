// Recorded trajectories and options for tests of the training loop: three demonstrations and three corrected
// episodes.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apo/data/trajectory.h"
#include "apo/training/trainer.h"
#include "support/temp_dir.h"
#include "training/linear_policy.h"

namespace apo::testing {

/// Step t of episode e; every number differs.
inline Step recorded_step(int episode, int t, ActionSource source) {
  Step step;
  const float x = static_cast<float>(episode * 20 + t);
  step.observation.images["front"] = at::full({4, 4, 3}, (10 * episode + t) % 256, at::kByte);
  step.observation.state["pose"] = {std::sin(x), std::cos(2 * x), 0.01f * x};
  step.observation.instruction = "lift the block";
  step.action = {0.9f * std::sin(3 * x), std::cos(x) > 0 ? 1.0f : -1.0f};
  if (std::abs(step.action[0]) < 0.1f) step.action[0] = 0.3f;  // moves, so that no filter takes it out
  step.source = source;
  return step;
}

inline const data::TrajectoryInfo kRecordingInfo = {
    .environment_name = "test", .environment_config = "", .policy = "", .policy_hash = ""};

/// Writes demos.hdf5 (3 episodes of 6 expert steps) and interactions.hdf5 (3 episodes: 8 policy, 4 human
/// steps).
inline void write_recordings(const std::filesystem::path& directory) {
  data::TrajectoryWriter demos(directory / "demos.hdf5", kRecordingInfo);
  data::TrajectoryWriter interactions(directory / "interactions.hdf5", kRecordingInfo);
  for (int episode = 0; episode < 3; ++episode) {
    demos.begin_episode("lift the block");
    for (int t = 0; t < 6; ++t) demos.append(recorded_step(episode, t, ActionSource::expert));
    demos.end_episode(true, "success");
    interactions.begin_episode("lift the block");
    for (int t = 0; t < 12; ++t)
      interactions.append(
          recorded_step(10 + episode, t, t < 8 ? ActionSource::policy : ActionSource::intervention));
    interactions.end_episode(true, "success");
  }
}

class RecordedRuns {
 public:
  RecordedRuns() {
    LinearPolicy::enroll();
    LinearPolicy::dropout = 0;
    LinearPolicy::before_save = nullptr;
    write_recordings(directory_.path());
  }
  ~RecordedRuns() {
    LinearPolicy::dropout = 0;
    LinearPolicy::before_save = nullptr;
  }
  std::filesystem::path operator/(const std::string& name) const { return directory_ / name; }

  /// A run of 6 steps with all that is stateful: dropout, shuffled pools, a reference, clipping, warm-up and
  /// cosine.
  training::TrainingOptions options(const std::string& run) const {
    training::TrainingOptions o;
    o.run.dir = (directory_ / run).string();
    o.run.seed = 7;
    o.run.device = "cpu";
    o.run.threads = 1;
    o.policy.type = LinearPolicy::kType;
    o.data.expert = {{.path = (directory_ / "demos.hdf5").string()}};
    o.data.interactions = {{.path = (directory_ / "interactions.hdf5").string()}};
    o.data.labels.steps_before_intervention = 4;
    o.data.augmentation.enabled = false;
    o.data.loader = {.workers = 0, .prefetch = 1};
    o.optimizer.learning_rate = 0.05;
    o.schedule.warmup_steps = 2;
    o.train.batch_size = 8;
    o.train.max_steps = 6;
    o.train.grad_clip = 0.5;
    o.train.checkpoint_every = 0;
    o.logging.per_sample = true;
    return o;
  }

 private:
  TempDir directory_;
};

inline std::vector<nlohmann::json> json_lines(const std::filesystem::path& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

/// metrics.jsonl without what measures time and memory.
inline std::vector<nlohmann::json> metrics_of(const std::filesystem::path& run) {
  auto lines = json_lines(run / "metrics.jsonl");
  for (auto& line : lines)
    for (const char* key : {"samples_per_second", "step_seconds", "data_seconds", "memory_bytes"})
      line.erase(key);
  return lines;
}

/// Two runs' metrics, as metrics_of, equal to rounding.
inline void expect_near_metrics(const std::filesystem::path& one, const std::filesystem::path& other) {
  const auto a = metrics_of(one), b = metrics_of(other);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    for (const auto& [key, value] : a[i].items()) {
      ASSERT_EQ(b[i][key].is_number(), value.is_number()) << key;
      if (!value.is_number()) continue;
      EXPECT_NEAR(b[i][key].get<double>(), value.get<double>(), 1e-5 * (1 + std::abs(value.get<double>())))
          << key << " in step " << i + 1;
    }
}

}  // namespace apo::testing
