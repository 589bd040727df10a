#include "apo/objective/options.h"

#include <array>
#include <cmath>

#include "apo/base/error.h"
#include "apo/config/options.h"

namespace apo::objective {
namespace {

template <class E>
using Name = std::pair<E, std::string_view>;

// A key whose default is what others decide: shown as what holds, kept where something else is said.
template <class T, class... More>
void visit_decided(config::Visitor& v, std::string_view name, std::optional<T>& value, T decided,
                   std::string_view doc, More... more) {
  const T before = decided;
  v(name, decided, doc, more...);
  if (decided != before) value = decided;
}

}  // namespace

std::span<const Name<ObjectiveType>> enum_names(ObjectiveType) {
  static constexpr std::array<Name<ObjectiveType>, 6> kNames = {{{ObjectiveType::apo, "apo"},
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
std::span<const Name<Preset>> enum_names(Preset) {
  static constexpr std::array<Name<Preset>, 2> kNames = {
      {{Preset::robust, "robust"}, {Preset::paper, "paper"}}};
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
    "sum: weights of a group (desirable, undesirable) add up to 1 in as many samples as group_size says (the "
    "paper's); mean: to the group's size");
  v("group_size", group_size,
    "normalization sum: both groups' samples in which their weights add up to 1, so that the balance of the "
    "two does not depend on the batch size; 8: the authors' micro-batch; 0: the whole batch",
    config::at_least(0));
  v("eta_desirable", eta_desirable, "lambda_D = 1 - exp(-eta_D w); larger counts desirable samples more",
    config::at_least(0));
  v("eta_undesirable", eta_undesirable, "lambda_U = exp(-eta_U w); larger counts undesirable samples less",
    config::at_least(0));
}

void ObjectiveOptions::visit(config::Visitor& v) {
  v("type", type,
    "apo (Action Preference Optimization, arXiv 2506.07127; not Anchored Preference Optimization), kto, sft, "
    "weighted-bc, dpo (the human's action against the policy's at the same step), tpo (the human's whole "
    "correction against the policy's steps before it)");
  v("compatibility", compatibility,
    "paper, or released-code: the authors' program to float32 rounding (apo; implies preset: paper)");
  // after the two that decide it, before those that it decides
  visit_decided(
      v, "preset", preset, preset_used(),
      "defaults of sft_weight, reference_kl_weight and reduction. robust: 1, 3 and mean for apo and kto, so "
      "that the policy keeps what it can do; paper: the bare published loss, 0, 0 and sum. The other types "
      "are the same in both");
  v("beta", beta, "temperature of the reward, > 0; larger saturates sooner and stays nearer to the reference",
    config::positive());
  v("z0", z0,
    "KL baseline: shifted-labels (released code), mismatched (KTO), exact (full distribution, no variance), "
    "none");
  v("kl_min", kl_min, "lower clamp of z0, nats (apo; kto clamps at 0)");
  v("kl_max", kl_max, "upper clamp of z0, nats (apo; kto has none)");
  v("weights", weights, "how much each sample counts (apo)");
  visit_decided(
      v, "reduction", reduction, reduction_used(),
      "of the loss: mean over the batch's samples (dpo, tpo: pairs), or sum (the paper's). Default: "
      "mean for apo and kto with preset robust, else sum. sft and weighted-bc always take the mean");
  visit_decided(v, "sft_weight", sft_weight, anchor(),
                "anchor: weight of the mean cross-entropy on the desirable samples beside one sample's "
                "preference loss (dpo, tpo: one pair's), whatever reduction says; 0: none; larger keeps more "
                "of what the policy can do. Default: 1 for apo and kto with preset robust, else 0",
                config::at_least(0));
  visit_decided(
      v, "reference_kl_weight", reference_kl_weight, hold(),
      "hold: weight of the mean KL(reference || policy) a token on the desirable samples that are no "
      "corrections (demonstrations, the policy's own good steps) beside one sample's preference loss (dpo, "
      "tpo: one pair's; sft, weighted-bc: the cross-entropy), whatever reduction says; 0: none; larger keeps "
      "more of what the policy does, and learns less. Default: 3 for apo and kto with preset robust, else 0",
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
  APO_CHECK(ConfigError, options.weights.group_size >= 0,
            "objective.weights.group_size: expected a number >= 0, found ", options.weights.group_size);
  APO_CHECK(ConfigError, std::isfinite(options.anchor()) && options.anchor() >= 0,
            "objective.sft_weight: expected a number >= 0, found ", options.anchor());
  APO_CHECK(ConfigError, std::isfinite(options.hold()) && options.hold() >= 0,
            "objective.reference_kl_weight: expected a number >= 0, found ", options.hold());
  APO_CHECK(ConfigError, options.label_smoothing_bins >= 0 && std::isfinite(options.label_smoothing_bins),
            "objective.label_smoothing_bins: expected a number >= 0, found ", options.label_smoothing_bins);
  if (!options.released_code()) return;
  APO_CHECK(ConfigError, options.preset_used() == Preset::paper,
            "objective.preset: compatibility released-code is the authors' program, which has no anchor; "
            "expected paper, found robust (objective.sft_weight adds an anchor to it)");
  APO_CHECK(ConfigError, options.reduction_used() == Reduction::sum,
            "objective.reduction: compatibility released-code sums over the batch; expected sum, found mean");
  APO_CHECK(ConfigError, options.weights.normalization == WeightNormalization::sum,
            "objective.weights.normalization: compatibility released-code has weights that add up to one; "
            "expected sum, found mean");
}

}  // namespace apo::objective
