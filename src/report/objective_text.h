// What an objective does, in words for who does not know its name.
#pragma once

#include <string>
#include <string_view>

namespace apo::report {

/// "Action Preference Optimization: desirable actions ..." for "apo"; empty for a name that is not known.
std::string objective_sentence(std::string_view type);

/// What the numbers of a heavy sample mean: that depends on the objective.
struct SampleText {
  std::string desirable, undesirable;  ///< what the samples of the group are
  std::string tie;                     ///< which samples count alike: "All samples weigh the same"
  std::string lambda;                  ///< what λ is
  std::string weight;                  ///< what w is; empty where it decides nothing: it is not shown then
  std::string frames;                  ///< what the colors around the pictures mean
  bool wanted = false;                 ///< undesirable is what the policy wanted while the human acted
};
/// Of the run with this config (YAML in block style); without one, what holds for all objectives.
SampleText sample_text(std::string_view config);

}  // namespace apo::report
