// The nouns that every room speaks: what a robot saw, what it did, who decided it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace apo {

/// Who chose an action. The numbers are those of `action_source` in trajectory files.
enum class ActionSource : int8_t { expert = 0, policy = 1, intervention = 2 };
/// "expert", "policy" or "intervention".
std::string_view to_string(ActionSource source);

/// What the policy is given at one timestep.
struct Observation {
  std::map<std::string, at::Tensor> images;         ///< camera name -> [Y, X, 3] uint8 RGB, row 0 at the top
  std::map<std::string, std::vector<float>> state;  ///< proprioception, name -> numbers in physical units
  std::string instruction;                          ///< what the robot was asked to do
};

/// One action in the environment's units, [A]; by convention within [-1, 1] with the gripper last.
using Action = std::vector<float>;
/// Actions of one decision, for its step and those after it, [H][A].
using ActionChunk = std::vector<Action>;

/// Why a human took over.
struct TakeOver {
  std::string reason;      ///< "wrong object"; empty: the human gave none
  int64_t steps_held = 0;  ///< for so many steps before the take-over the reason had held already
};

/// One recorded timestep.
struct Step {
  Observation observation;
  Action action;                               ///< what was executed
  ActionSource source = ActionSource::policy;  ///< who chose it
  std::optional<Action> policy_action;         ///< what the policy wanted while a human acted
  /// How many steps before this one the policy was asked for what it wanted here; 0: in this one. Nothing:
  /// not asked, or not known.
  std::optional<int64_t> decision_offset;
  /// an explicit label from the file; wins over the K-step rule
  std::optional<bool> desirable;
  std::optional<TakeOver> take_over = {};  ///< at the human's first step: why, where that is recorded
  float reward = 0;
  bool done = false;
};

/// One recorded episode.
struct Episode {
  std::string instruction;
  std::vector<Step> steps;
  std::optional<bool> success;  ///< absent: the file does not say
  std::string outcome;          ///< free text, e.g. "success", "timeout", "wrong object"
};

}  // namespace apo
