#include "apo/models/description.h"

#include <torch/types.h>

#include <algorithm>
#include <array>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "models/small/vocabulary.h"

namespace apo::models {
namespace {

// Data sets whose gripper is 1 open and 0 closed once they are prepared for OpenVLA.
bool opens_with_one(const std::string& dataset) {
  constexpr std::array<std::string_view, 4> known{"bridge_orig", "bridge_oxe", "fractal20220817_data",
                                                  "droid"};
  return dataset.starts_with("libero_") || std::find(known.begin(), known.end(), dataset) != known.end();
}

bool lie_in_unit_interval(const tokenizers::VectorStatistics& action,
                          const std::vector<int64_t>& dimensions) {
  return std::all_of(dimensions.begin(), dimensions.end(), [&action](int64_t d) {
    const auto j = static_cast<size_t>(d);
    return action.min[j] >= 0 && action.max[j] <= 1;
  });
}

}  // namespace

config::GripperOptions known_gripper(const PolicyOptions& options, const tokenizers::DatasetStatistics& found,
                                     const std::string& dataset) {
  config::GripperOptions gripper = found.gripper;
  const std::vector<int64_t> unmasked = tokenizers::unmasked_dimensions(found.action);
  const bool is_last = unmasked == std::vector<int64_t>{found.action.size() - 1};
  if (gripper.dimension.empty() && !is_last) gripper.dimension = unmasked;
  if (!gripper.is_coded() && opens_with_one(dataset) && !unmasked.empty() &&
      lie_in_unit_interval(found.action, unmasked)) {
    gripper.open = 1.0;
    gripper.closed = 0.0;
  }
  config::gripper_dimensions(options.gripper, found.action.size(), "policy");
  const config::GripperOptions wanted = config::or_else(options.gripper, gripper);
  if (options.gripper.is_coded() && gripper.is_coded() &&
      (gripper.open != wanted.open || gripper.closed != wanted.closed))
    log_warn("policy.gripper: ", config::to_text(wanted), "; the checkpoint's statistics '", dataset,
             "' say ", config::to_text(gripper));
  if (options.gripper.is_coded() && !unmasked.empty()) {
    const auto j = static_cast<size_t>(unmasked.front());
    const double low = std::min(*wanted.open, *wanted.closed), high = std::max(*wanted.open, *wanted.closed);
    const double touch = 0.25 * (high - low);
    if (found.action.q01[j] < low - touch || found.action.q99[j] > high + touch)
      log_warn("policy.gripper: ", config::to_text(wanted), "; but the statistics '", dataset,
               "' have q01..q99 of ", found.action.q01[j], "..", found.action.q99[j], " there");
  }
  return wanted;
}

void override_statistics(const PolicyOptions& options, const std::string& dataset,
                         tokenizers::DatasetStatistics& statistics) {
  statistics.gripper = known_gripper(options, statistics, dataset);
  if (options.action_normalization != tokenizers::ActionNormalization::automatic)
    statistics.normalization = options.action_normalization;
}

std::vector<std::string> PolicyDescription::unknown_words(const std::string& instruction) const {
  std::vector<std::string> unknown = split_words(instruction);
  std::erase_if(unknown,
                [this](const std::string& word) { return std::ranges::find(words, word) != words.end(); });
  return unknown;
}

}  // namespace apo::models
