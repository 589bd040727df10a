// What a checkpoint says of itself without its weights being read: what recordings are compared with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/data/statistics.h"
#include "apo/data/validate.h"
#include "apo/models/policy.h"

namespace apo::models {

struct PolicyDescription {
  data::DatasetStatistics
      statistics;                    ///< gripper and normalisation among them, the options' where they say so
  std::vector<std::string> cameras;  ///< that it needs; empty: any one
  std::vector<std::string> state_keys;  ///< that it needs
  int64_t image_size = 0;               ///< square pictures that the network sees, pixels
  std::vector<std::string> words;       ///< of the instructions that it knows; empty: not recorded
};

/// Of policy.checkpoint; nothing for a fresh policy and for a kind of policy that does not describe itself.
/// DataError as make_policy for a checkpoint that is missing or does not fit.
std::optional<PolicyDescription> describe_policy(const PolicyOptions& options);

/// What `data` is to be read and compared for: cameras, states, action statistics and gripper of the policy.
data::PolicyInputs policy_inputs(const PolicyOptions& options);

/// What a checkpoint's gripper is: of the options, else of `found`, else of the mask and of a known
/// `dataset`: those of OpenVLA's training mixtures and its LIBERO checkpoints are 1 open, 0 closed.
/// ConfigError for options that name no dimension of the action; a warning where they differ from what was
/// found.
config::GripperOptions known_gripper(const PolicyOptions& options, const data::DatasetStatistics& found,
                                   const std::string& dataset);

}  // namespace apo::models
