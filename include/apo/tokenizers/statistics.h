// The spread of actions and states in recorded data, for normalisation; kept with a policy's weights.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/config/gripper.h"

namespace apo::tokenizers {

/// `automatic`     as the checkpoint says, else quantiles
/// `quantiles`     q01 and q99 become -1 and 1 where the statistics' mask is true, other dimensions stay
/// `bounds`        min and max become -1 and 1 where the mask is true, other dimensions stay
/// `released_apo`  as quantiles in every dimension, mask or not, in float64 with 1e-8 added to q99 - q01,
///                 as the authors' program: a gripper of +1 between -1 and 1 becomes 1 - 1e-8, which is the
///                 last bin but one
enum class ActionNormalization { automatic, quantiles, bounds, released_apo };
std::span<const std::pair<ActionNormalization, std::string_view>> enum_names(ActionNormalization);

/// Per-dimension statistics of a vector quantity, [D] each, physical units.
struct VectorStatistics {
  std::vector<double> mean, std, min, max, q01, q99;
  /// false: this dimension is not normalised (a gripper; of states one that never changes)
  std::vector<bool> mask;
  int64_t size() const { return static_cast<int64_t>(mean.size()); }
};

/// What OpenVLA calls dataset statistics.
struct DatasetStatistics {
  VectorStatistics action;
  std::map<std::string, VectorStatistics> state;  ///< by state name
  int64_t num_transitions = 0, num_trajectories = 0;
  /// where the action's gripper is, and how it is coded
  config::GripperOptions gripper = {};
  ActionNormalization normalization = ActionNormalization::quantiles;  ///< never automatic
};

/// Of q99 − q01: with less, a dimension never changes.
inline constexpr double kSmallestSpread = 1e-6;

/// OpenVLA's dataset_statistics.json: {name: {"action": {mean, std, min, max, q01, q99, mask},
/// "num_transitions", "num_trajectories", ...}}; states are under "state" by name, and a single one under
/// "proprio", too. What is known of the gripper is under "gripper", a normalisation other than quantiles
/// under "action_normalization".
std::string to_json(const DatasetStatistics& statistics, const std::string& name);
/// The same as a table for people, without a name.
std::string to_text(const DatasetStatistics& statistics);
/// The entry `name` (or the only one if `name` is empty). A file without "state" gives its "proprio" as state
/// "proprio". A dimension with q01 = q99 and no mask is named in a warning; q99 < q01 is an error.
/// DataError naming `where`, the key and the valid names.
DatasetStatistics statistics_from_json(const std::string& json, const std::string& name,
                                       const std::string& where);

/// The dimensions that the mask leaves as they are although they vary: the grippers, where statistics are of
/// others.
std::vector<int64_t> unmasked_dimensions(const VectorStatistics& statistics);

}  // namespace apo::tokenizers
