// Recordings to be validated, good unless a test changes them, and what is found in them.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "apo/audit/inspect.h"
#include "apo/audit/validate.h"
#include "apo/base/random.h"
#include "audit/names.h"
#include "data/recordings.h"
#include "support/temp_dir.h"

namespace apo::audit {

struct Recording {
  std::string name = "a.hdf5";
  std::vector<std::string> episodes = {"ppppphhhpp", "pppphhhppp"};
  std::function<void(int64_t step, Step&)> change = nullptr;
  std::optional<bool> success = true;
  std::string instruction = "lift the cube";
  uint64_t seed = 1;
};

// Varied actions, a hand that follows them, and pictures of many colors.
inline std::string record(const apo::testing::TempDir& dir, const Recording& r) {
  const std::filesystem::path path = dir / r.name;
  TrajectoryWriter writer(path, test_info());
  Random random(r.seed);
  int64_t id = 0;
  for (const std::string& letters : r.episodes) {
    writer.begin_episode(r.instruction);
    std::vector<float> hand(3, 0.0f);
    for (size_t t = 0; t < letters.size(); ++t) {
      Step step = numbered_step(id, source_of(letters[t]));
      step.action.clear();
      for (int j = 0; j < 6; ++j) step.action.push_back(static_cast<float>(random.uniform(-0.9, 0.9)));
      step.action.push_back(2 * t < letters.size() ? -1.0f : 1.0f);
      step.observation.state["eef_pos"] = hand;
      for (size_t j = 0; j < 3; ++j) hand[j] += step.action[j] / 20;
      if (r.change) r.change(id, step);
      writer.append(step);
      ++id;
    }
    writer.end_episode(r.success, "");
  }
  return path.string();
}

inline Validation validated(const std::vector<std::string>& paths,
                            const std::function<void(DataOptions&)>& change = nullptr,
                            bool pools_needed = true, const PolicyInputs& inputs = {}) {
  DataOptions options = options_for_paths(paths);
  options.labels.steps_before_intervention = 3;
  if (change) change(options);
  return validate(options, pools_needed, inputs);
}

inline Validation of(const Recording& recording, const std::function<void(DataOptions&)>& change = nullptr) {
  apo::testing::TempDir dir;
  return validated({record(dir, recording)}, change);
}

// The findings of one check, one a line: "warning: ...".
inline std::string found(const Validation& validation, const std::string& name) {
  for (const CheckResult& check : validation.checks) {
    if (check.name != name) continue;
    std::string text;
    for (const Finding& finding : check.findings)
      text += std::string(to_string(finding.severity)) + ": " + finding.message + "\n";
    return text;
  }
  return "no such check";
}

// Checks with a warning or an error.
inline std::string complaints(const Validation& validation) {
  std::string names;
  for (const CheckResult& check : validation.checks)
    for (const Finding& finding : check.findings)
      if (finding.severity != Severity::note) names += check.name + ": " + finding.message + "\n";
  return names;
}

}  // namespace apo::audit
