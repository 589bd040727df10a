// A loop small enough for tests: pictures of 32 pixels, a handful of episodes, a few updates.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "support/program.h"
#include "support/temp_dir.h"

namespace apo::testing {

inline const char* kTinyConfig = R"(
run: {dir: run, seed: 3, device: cpu, threads: 1}
policy: {cameras: [front], state_keys: [eef_height, gripper_opening], small: {image_size: 32, width: 16, layers: 1, heads: 2, channels: 4}}
environment: {type: tabletop, tabletop: {image_size: 32}}
deploy:
  demonstrations: {episodes: 6}
  collect: {take_overs: 2, episodes: 8}
  intervention: {scripted: {patience_steps: 12, ignore: [stuck, grasped air, passed by]}}   # a policy of a few updates goes nowhere
eval: {trials: 4, parallel: 4}
data:
  labels: {undesirable_reasons: [wrong object, off course, out of patience]}
  filter: {min_motion: 0}
  augmentation: {shift_px: 1, brightness: 0.1}
optimizer: {learning_rate: 1.0e-3}
train: {batch_size: 8, max_steps: 6, checkpoint_every: 2}
refine:
  animations: 0
  base: {train: {batch_size: 8, max_steps: 4, checkpoint_every: 2}}
)";

/// The objects of a file that has one a line.
inline std::vector<nlohmann::json> lines(const std::string& path) {
  std::vector<nlohmann::json> all;
  std::istringstream in(slurp(path));
  for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
  return all;
}

/// Programs that share a config in a directory of the test's own.
class TinyLoop : public ::testing::Test {
 protected:
  void SetUp() override { spit(config(), kTinyConfig); }

  std::string config() const { return dir_ / "tiny.yaml"; }
  std::string path(const std::string& name) const { return dir_ / name; }
  static std::string set(const std::string& assignment) { return "--set=" + assignment; }

  ProgramResult run(const std::string& program, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--config", config()});
    return run_program(program, arguments);
  }
  /// Demonstrations in demos.hdf5.
  void record_demonstrations() const {
    const auto result = run("apo-collect", {"--demonstrations", "--output", path("demos.hdf5")});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  std::string expert() const { return set("data.expert=[{path: " + path("demos.hdf5") + "}]"); }
  std::vector<std::string> sft(const std::string& run_dir, std::vector<std::string> more = {}) const {
    std::vector<std::string> all = {expert(), set("objective.type=sft"), set("run.dir=" + path(run_dir)),
                                    set("data.pools={desirable: 1, intervention: 0, undesirable: 0}")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  /// A base policy in base/.
  void train_base() const {
    record_demonstrations();
    const auto result = run("apo-train", sft("base"));
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }

  TempDir dir_;
};

}  // namespace apo::testing
