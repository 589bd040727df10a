// What a run says about its objective. `apo` is Action Preference Optimization (arXiv 2506.07127), not the
// *Anchored* Preference Optimization that other libraries abbreviate in the same way.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace apo::config {
class Visitor;
}

namespace apo::objective {

/// Which loss is minimised. "apo", "kto", "sft", "weighted-bc"; "dpo" and "tpo" compare pairs: of actions at
/// one observation, or of the segments on either side of a take-over.
enum class ObjectiveType { apo, kto, sft, weighted_bc, dpo, tpo };
/// How z0, the baseline that rewards are compared with, is estimated. "shifted-labels", "mismatched",
/// "exact", "none".
enum class Z0Estimator { shifted_labels, mismatched, exact, none };
/// Whose definition of APO: the paper's (and ours), or the authors' program to float32 rounding. "paper",
/// "released-code".
enum class Compatibility { paper, released_code };
/// What `sft_weight`, `reference_kl_weight` and `reduction` are where nobody sets them. "robust": apo and kto
/// have 1 and 3, which hold what the policy can do already, and take the mean; "paper": the bare published
/// loss, with neither and summed over the batch. The other objectives are the same in both.
enum class Preset { robust, paper };
/// "adaptive": λ from the policy's action error; "uniform": λ = 1.
enum class WeightType { adaptive, uniform };
/// What the weights w of one group (desirable, undesirable) add up to. "sum": 1 in as many samples as
/// `WeightOptions::group_size` says; "mean": the number of the group's samples in the batch.
enum class WeightNormalization { sum, mean };
/// "sum" over the batch, or "mean" (divided by the number of samples).
enum class Reduction { sum, mean };
/// What of an undesirable sample is pushed down. "sample": all tokens alike; "dimension": each token by
/// `dimension_credit`.
enum class Credit { sample, dimension };

std::span<const std::pair<ObjectiveType, std::string_view>> enum_names(ObjectiveType);
std::span<const std::pair<Z0Estimator, std::string_view>> enum_names(Z0Estimator);
std::span<const std::pair<Compatibility, std::string_view>> enum_names(Compatibility);
std::span<const std::pair<Preset, std::string_view>> enum_names(Preset);
std::span<const std::pair<WeightType, std::string_view>> enum_names(WeightType);
std::span<const std::pair<WeightNormalization, std::string_view>> enum_names(WeightNormalization);
std::span<const std::pair<Reduction, std::string_view>> enum_names(Reduction);
std::span<const std::pair<Credit, std::string_view>> enum_names(Credit);

/// How much each sample counts: λ_D = 1 − e^{−η_D w}, λ_U = e^{−η_U w}.
struct WeightOptions {
  WeightType type = WeightType::adaptive;
  WeightNormalization normalization = WeightNormalization::sum;
  int64_t group_size = 8;  ///< Σ w = 1 in so many samples of both groups; 0: the batch. normalization "sum"
  double eta_desirable = 1.0;
  double eta_undesirable = 1.0;
  void visit(config::Visitor& v);
};

/// The `objective` section of a configuration. Its defaults are those of a configuration that says nothing:
/// `preset`, `reduction`, `sft_weight` and `reference_kl_weight`, where they are unset, are what
/// `preset_used`, `reduction_used`, `anchor` and `hold` say.
struct ObjectiveOptions {
  ObjectiveType type = ObjectiveType::apo;
  double beta = 0.1;
  Z0Estimator z0 = Z0Estimator::shifted_labels;
  double kl_min = -5.0;
  double kl_max = 5.0;
  Compatibility compatibility = Compatibility::paper;
  std::optional<Preset> preset{};
  WeightOptions weights{};
  std::optional<Reduction> reduction{};
  std::optional<double> sft_weight{};  ///< >= 0, beside one sample's preference loss (dpo, tpo: one pair's)
  /// >= 0, beside the same; of KL(reference‖policy) on held samples
  std::optional<double> reference_kl_weight{};
  double label_smoothing_bins = 0.0;
  Credit credit = Credit::sample;
  void visit(config::Visitor& v);

  /// `preset`; unset: paper with compatibility "released-code", else robust.
  Preset preset_used() const { return preset.value_or(released_code() ? Preset::paper : Preset::robust); }
  /// `reduction`; unset: mean for apo and kto with the robust preset, else sum.
  Reduction reduction_used() const { return reduction.value_or(robust() ? Reduction::mean : Reduction::sum); }
  /// `sft_weight`; unset: 1 for apo and kto with the robust preset, else 0.
  double anchor() const { return sft_weight.value_or(robust() ? kRobustAnchor : 0.0); }
  /// `reference_kl_weight`; unset: 3 for apo and kto with the robust preset, else 0.
  double hold() const { return reference_kl_weight.value_or(robust() ? kRobustHold : 0.0); }

  /// True for behavior cloning: no preferences.
  bool imitates() const { return type == ObjectiveType::sft || type == ObjectiveType::weighted_bc; }
  /// True for what compares with a reference policy.
  bool needs_reference() const { return !imitates() || hold() > 0; }
  /// True for the objectives whose samples are labelled one by one; `z0` and `credit` are theirs.
  bool uses_z0() const { return type == ObjectiveType::apo || type == ObjectiveType::kto; }
  /// True where z0 is estimated from the batch: it is then a sum over its statistics.
  bool estimates_z0() const { return uses_z0() && z0 != Z0Estimator::none; }
  /// True for the objectives that compare pairs: `Batch::pair` is theirs.
  bool needs_pairs() const { return type == ObjectiveType::dpo || type == ObjectiveType::tpo; }
  /// True when the trainer must supply `mismatched_tokens` and, for "mismatched", their logits.
  bool needs_mismatched_tokens() const {
    return uses_z0() && (z0 == Z0Estimator::shifted_labels || z0 == Z0Estimator::mismatched);
  }
  /// True when the trainer must supply logits that were teacher-forced on `mismatched_tokens`.
  bool needs_mismatched_logits() const { return uses_z0() && z0 == Z0Estimator::mismatched; }
  /// True for what compares whole distributions with the reference's, not log-probabilities alone.
  bool compares_distributions() const { return hold() > 0 || (uses_z0() && z0 == Z0Estimator::exact); }
  /// True when `action_l1` decides the weights.
  bool needs_action_l1() const { return type == ObjectiveType::apo && weights.type == WeightType::adaptive; }
  /// True for the authors' program, bit for bit what it computes: its statistics are each rank's own, not
  /// those of the batch of all ranks (whoever runs several ranks leaves them alone), and it reads the end
  /// token in desirable rewards only.
  bool released_code() const {
    return type == ObjectiveType::apo && compatibility == Compatibility::released_code;
  }

 private:
  static constexpr double kRobustAnchor = 1, kRobustHold = 3;
  bool robust() const { return uses_z0() && preset_used() == Preset::robust; }
};

/// ConfigError naming the keys of `objective` that contradict each other.
void check(const ObjectiveOptions& options);

}  // namespace apo::objective
