#include "apo/objective/options.h"

#include <array>
#include <cmath>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::objective {
namespace {

template <class E>
using Name = std::pair<E, std::string_view>;

}  // namespace

std::span<const Name<ObjectiveType>> enum_names(ObjectiveType) {
  static constexpr std::array<Name<ObjectiveType>, 6> kNames = {
      {{ObjectiveType::apo, "apo"},
       {ObjectiveType::kto, "kto"},
       {ObjectiveType::sft, "sft"},
       {ObjectiveType::weighted_bc, "weighted-bc"},
       {ObjectiveType::dpo, "dpo"},
       {ObjectiveType::tpo, "tpo"}}};
  return kNames;
}
std::span<const Name<Z0Estimator>> enum_names(Z0Estimator) {
  static constexpr std::array<Name<Z0Estimator>, 4> kNames = {
      {{Z0Estimator::shifted_labels, "shifted-labels"},
       {Z0Estimator::mismatched, "mismatched"},
       {Z0Estimator::exact, "exact"},
       {Z0Estimator::none, "none"}}};
  return kNames;
}
std::span<const Name<Compatibility>> enum_names(Compatibility) {
  static constexpr std::array<Name<Compatibility>, 2> kNames = {
      {{Compatibility::paper, "paper"}, {Compatibility::released_code, "released-code"}}};
  return kNames;
}
std::span<const Name<WeightType>> enum_names(WeightType) {
  static constexpr std::array<Name<WeightType>, 2> kNames = {
      {{WeightType::adaptive, "adaptive"}, {WeightType::uniform, "uniform"}}};
  return kNames;
}
std::span<const Name<WeightNormalization>> enum_names(WeightNormalization) {
  static constexpr std::array<Name<WeightNormalization>, 2> kNames = {
      {{WeightNormalization::sum, "sum"}, {WeightNormalization::mean, "mean"}}};
  return kNames;
}
std::span<const Name<Reduction>> enum_names(Reduction) {
  static constexpr std::array<Name<Reduction>, 2> kNames = {
      {{Reduction::sum, "sum"}, {Reduction::mean, "mean"}}};
  return kNames;
}
std::span<const Name<Credit>> enum_names(Credit) {
  static constexpr std::array<Name<Credit>, 2> kNames = {
      {{Credit::sample, "sample"}, {Credit::dimension, "dimension"}}};
  return kNames;
}

void WeightOptions::visit(config::Visitor& v) {
  v("type", type, "adaptive: lambda from the policy's action error; uniform: lambda = 1");
  v("normalization", normalization,
    "sum: weights of a group add up to 1 (the paper's; depends on the batch size); mean: to the group's "
    "size");
  v("eta_desirable", eta_desirable, "lambda_D = 1 - exp(-eta_D w); larger counts desirable samples more",
    config::at_least(0));
  v("eta_undesirable", eta_undesirable, "lambda_U = exp(-eta_U w); larger counts undesirable samples less",
    config::at_least(0));
}

void ObjectiveOptions::visit(config::Visitor& v) {
  v("type", type,
    "apo (Action Preference Optimization, arXiv 2506.07127; not Anchored Preference Optimization), kto, sft, "
    "weighted-bc, dpo (the human's action against the policy's at the same step), tpo (the human's whole correction "
    "against the policy's steps before it)");
  v("beta", beta, "temperature of the reward, > 0; larger saturates sooner and stays nearer to the reference",
    config::positive());
  v("z0", z0,
    "KL baseline: shifted-labels (released code), mismatched (KTO), exact (full distribution, no variance), "
    "none");
  v("kl_min", kl_min, "lower clamp of z0, nats (apo; kto clamps at 0)");
  v("kl_max", kl_max, "upper clamp of z0, nats (apo; kto has none)");
  v("compatibility", compatibility,
    "paper, or released-code: the authors' program to float32 rounding (apo)");
  v("weights", weights, "how much each sample counts (apo)");
  v("reduction", reduction,
    "of the preference loss: sum over the batch (the paper's), or mean over its samples (dpo, tpo: pairs); sft and "
    "weighted-bc always take the mean");
  v("sft_weight", sft_weight, "anchor: weight of the mean cross-entropy on the desirable samples; 0: none",
    config::at_least(0));
  v("label_smoothing_bins", label_smoothing_bins,
    "sigma of the Gaussian over neighbouring action bins, in rewards and cross-entropy alike; 0: hard labels",
    config::at_least(0));
  v("credit", credit,
    "sample: all tokens of an undesirable step are pushed down; dimension: each as far as the human changed "
    "it (apo, kto)");
}

void check(const ObjectiveOptions& options) {
  APO_CHECK(ConfigError, std::isfinite(options.beta) && options.beta > 0,
            "objective.beta: expected a number > 0, found ", options.beta);
  APO_CHECK(ConfigError, options.kl_min <= options.kl_max,
            "objective.kl_min: expected at most objective.kl_max = ", options.kl_max, ", found ",
            options.kl_min);
  APO_CHECK(ConfigError, options.weights.eta_desirable >= 0 && options.weights.eta_undesirable >= 0,
            "objective.weights.eta_desirable, eta_undesirable: expected numbers >= 0, found ",
            options.weights.eta_desirable, " and ", options.weights.eta_undesirable);
  APO_CHECK(ConfigError, options.sft_weight >= 0, "objective.sft_weight: expected a number >= 0, found ",
            options.sft_weight);
  APO_CHECK(ConfigError, options.label_smoothing_bins >= 0 && std::isfinite(options.label_smoothing_bins),
            "objective.label_smoothing_bins: expected a number >= 0, found ", options.label_smoothing_bins);
  if (options.statistics_are_global()) return;
  APO_CHECK(ConfigError, options.reduction == Reduction::sum,
            "objective.reduction: compatibility released-code sums over the batch; expected sum, found mean");
  APO_CHECK(ConfigError, options.weights.normalization == WeightNormalization::sum,
            "objective.weights.normalization: compatibility released-code has weights that add up to one; "
            "expected sum, found mean");
}

}  // namespace apo::objective
