// Where the gripper is in an action, and how its command is coded.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apo/base/types.h"

namespace apo::config {

class Visitor;

/// Of a source of recordings (`data.expert[].gripper`, `data.interactions[].gripper`) or of a policy
/// (`policy.gripper`). Without anything: the last number of an action, coded as nobody knows.
struct GripperOptions {
  std::vector<int64_t> dimension = {};  ///< from 0, from the end if negative; one a gripper; empty: the last
  std::optional<double> open = {}, closed = {};  ///< the commands that open and close it; both or none
  bool is_coded() const { return open.has_value() && closed.has_value(); }
  bool is_given() const { return !dimension.empty() || is_coded(); }
  bool operator==(const GripperOptions&) const = default;
  void visit(config::Visitor& v);
};

/// "dimension 6, 0 open, 1 closed", for messages.
std::string to_text(const GripperOptions& gripper);

/// What `gripper` leaves open (its dimensions, its coding) is as `other` says.
GripperOptions or_else(GripperOptions gripper, const GripperOptions& other);

/// Which numbers of an action are grippers, counted from 0 and sorted; without `dimension` the last one, and
/// none where an action is one number. ConfigError naming `where` (e.g. a file) for a dimension that there is
/// not, one named twice, and `open` or `closed` alone or equal.
std::vector<int64_t> gripper_dimensions(const GripperOptions& gripper, int64_t action_size,
                                        const std::string& where = "gripper");

/// Recodes the gripper's numbers of an action: what opened under `from` opens under `to`, the same for
/// closing, and linearly between. Nothing changes unless both are coded. `dimensions` as gripper_dimensions
/// gives them.
void recode_gripper(Action& action, std::span<const int64_t> dimensions, const GripperOptions& from,
                    const GripperOptions& to);

}  // namespace apo::config
