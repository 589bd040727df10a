// What a checkpoint says of itself without its weights being read: what recordings are compared with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apo/models/registry.h"
#include "apo/tokenizers/statistics.h"

namespace apo::models {

struct PolicyDescription {
  /// gripper and normalisation among them, the options' where they say so
  tokenizers::DatasetStatistics statistics;
  std::vector<std::string> cameras;     ///< that it needs; empty: any one
  std::vector<std::string> state_keys;  ///< that it needs
  int64_t image_size = 0;               ///< square pictures that the network sees, pixels
  std::vector<std::string> words;       ///< of the instructions that it knows; empty: not recorded
  /// The words of an instruction that are not among `words`.
  std::vector<std::string> unknown_words(const std::string& instruction) const;
};

/// Of policy.checkpoint; nothing for a fresh policy and for a kind of policy that does not describe itself.
/// DataError as make_policy for a checkpoint that is missing or does not fit.
std::optional<PolicyDescription> describe_policy(const PolicyOptions& options);

/// What a checkpoint's gripper is: of the options, else of `found`, else of the mask and of a known
/// `dataset`: those of OpenVLA's training mixtures and its LIBERO checkpoints are 1 open, 0 closed.
/// ConfigError for options that name no dimension of the action; a warning where they differ from what was
/// found.
config::GripperOptions known_gripper(const PolicyOptions& options, const tokenizers::DatasetStatistics& found,
                                     const std::string& dataset);

/// Puts into a checkpoint's statistics what the options say instead: gripper (known_gripper) and
/// normalisation.
void override_statistics(const PolicyOptions& options, const std::string& dataset,
                         tokenizers::DatasetStatistics& statistics);

}  // namespace apo::models
