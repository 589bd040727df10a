// Since when a policy went wrong before a take-over, estimated from what was recorded.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "apo/data/trajectory.h"

namespace apo::data {

/// A take-over as the recording shows it.
struct TakeOverView {
  const EpisodeRecord& episode;
  std::span<const size_t> before;    ///< the policy's steps that lead to it, ascending
  std::span<const size_t> human;     ///< its first human steps
  std::span<const int64_t> gripper;  ///< dimensions that do not move the robot, sorted
  std::optional<int64_t> since;      ///< first step at which its recorded reason held
  double min_motion = 0;             ///< a correction whose Σ|mean| is smaller has no direction
  int64_t max_window = 1;
};

/// How many of the last steps of `before` belong to the mistake; nullopt if the correction has no direction.
///
/// The correction h is the mean of the human's actions, without the gripper. Going back from the take-over, a
/// step's action a is part of the mistake while it goes against h (a·h < 0) or, where the file says what the
/// policy wanted at those human steps (mean p), lies nearer to p than to h. One step in between that does
/// neither ends nothing, two do. Steps since `since` belong to it whatever they do. At least one step if
/// there is any, and at most `max_window`.
std::optional<int64_t> estimate_window(const TakeOverView& take_over);

}  // namespace apo::data
