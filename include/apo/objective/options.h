// What a run says about its objective. `apo` is Action Preference Optimization (arXiv 2506.07127), not the
// *Anchored* Preference Optimization that other libraries abbreviate in the same way.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

namespace apo::config {
class Visitor;
}

namespace apo::objective {

/// Which loss is minimised. "apo", "kto", "sft", "weighted-bc"; "dpo" and "tpo" compare pairs: of actions at one
/// observation, or of the segments on either side of a take-over.
enum class ObjectiveType { apo, kto, sft, weighted_bc, dpo, tpo };
/// How z0, the baseline that rewards are compared with, is estimated. "shifted-labels", "mismatched",
/// "exact", "none".
enum class Z0Estimator { shifted_labels, mismatched, exact, none };
/// Whose definition of APO: the paper's (and ours), or the authors' program to float32 rounding. "paper",
/// "released-code".
enum class Compatibility { paper, released_code };
/// "adaptive": λ from the policy's action error; "uniform": λ = 1.
enum class WeightType { adaptive, uniform };
/// What the weights w of one group add up to. "sum": 1, "mean": the group's size (batch-size free).
enum class WeightNormalization { sum, mean };
/// "sum" over the batch, or "mean" (divided by the number of samples).
enum class Reduction { sum, mean };
/// What of an undesirable sample is pushed down. "sample": all tokens alike; "dimension": each token by
/// `dimension_credit`.
enum class Credit { sample, dimension };

std::span<const std::pair<ObjectiveType, std::string_view>> enum_names(ObjectiveType);
std::span<const std::pair<Z0Estimator, std::string_view>> enum_names(Z0Estimator);
std::span<const std::pair<Compatibility, std::string_view>> enum_names(Compatibility);
std::span<const std::pair<WeightType, std::string_view>> enum_names(WeightType);
std::span<const std::pair<WeightNormalization, std::string_view>> enum_names(WeightNormalization);
std::span<const std::pair<Reduction, std::string_view>> enum_names(Reduction);
std::span<const std::pair<Credit, std::string_view>> enum_names(Credit);

/// How much each sample counts: λ_D = 1 − e^{−η_D w}, λ_U = e^{−η_U w}.
struct WeightOptions {
  WeightType type = WeightType::adaptive;
  WeightNormalization normalization = WeightNormalization::sum;
  double eta_desirable = 1.0;
  double eta_undesirable = 1.0;
  void visit(config::Visitor& v);
};

/// The `objective` section of a configuration. Defaults are the paper's.
struct ObjectiveOptions {
  ObjectiveType type = ObjectiveType::apo;
  double beta = 0.1;
  Z0Estimator z0 = Z0Estimator::shifted_labels;
  double kl_min = -5.0;
  double kl_max = 5.0;
  Compatibility compatibility = Compatibility::paper;
  WeightOptions weights{};
  Reduction reduction = Reduction::sum;
  double sft_weight = 0.0;
  double label_smoothing_bins = 0.0;
  Credit credit = Credit::sample;
  void visit(config::Visitor& v);

  /// True for the objectives that compare with a reference policy.
  bool needs_reference() const { return uses_z0() || needs_pairs(); }
  /// True for the objectives whose samples are labelled one by one; `z0` and `credit` are theirs.
  bool uses_z0() const { return type == ObjectiveType::apo || type == ObjectiveType::kto; }
  /// True for the objectives that compare pairs: `ObjectiveInput::pair` is theirs.
  bool needs_pairs() const { return type == ObjectiveType::dpo || type == ObjectiveType::tpo; }
  /// True when the trainer must supply `mismatched_tokens` and, for "mismatched", their logits.
  bool needs_mismatched_tokens() const {
    return uses_z0() && (z0 == Z0Estimator::shifted_labels || z0 == Z0Estimator::mismatched);
  }
  /// True when the trainer must supply logits that were teacher-forced on `mismatched_tokens`.
  bool needs_mismatched_logits() const { return uses_z0() && z0 == Z0Estimator::mismatched; }
  /// True when `action_l1` decides the weights.
  bool needs_action_l1() const { return type == ObjectiveType::apo && weights.type == WeightType::adaptive; }
  /// True when the statistics are those of the batch of all ranks; false when each rank's batch stands alone, as in
  /// the released code. Whoever runs several ranks sums or does not sum them accordingly.
  bool statistics_are_global() const {
    return !(type == ObjectiveType::apo && compatibility == Compatibility::released_code);
  }
};

/// ConfigError naming the keys of `objective` that contradict each other.
void check(const ObjectiveOptions& options);

}  // namespace apo::objective
