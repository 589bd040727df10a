#include "training/reference_scorer.h"

#include <ATen/autocast_mode.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "training/cached_reference.h"
#include "training/checkpoint.h"

namespace apo::training {
namespace {

// bfloat16 arithmetic for linear layers, convolutions and attention while it lives.
class AutocastScope {
 public:
  AutocastScope(at::DeviceType device, bool enabled) : device_(device), enabled_(enabled) {
    if (!enabled_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(device_);
    dtype_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~AutocastScope() {
    if (!enabled_) return;
    // weights cast once a scope: they change between scopes
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, dtype_);
  }
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  at::DeviceType device_;
  bool enabled_, was_enabled_ = false;
  at::ScalarType dtype_ = at::kFloat;
};

template <class Network>
models::Score score_of(Network& network, const Question& question) {
  const AutocastScope autocast(question.tokens.ids.device().type(), question.bfloat16);
  return network.score(question.input, question.tokens,
                       question.mismatched.ids.defined() ? &question.mismatched : nullptr);
}

}  // namespace

models::Score answer(models::Policy& policy, const Question& question) { return score_of(policy, question); }

objective::ReferenceScores LiveReference::score(const Question& question) {
  return objective::reference_scores(question.batch, question.options, score_of(reference_, question));
}

objective::ReferenceScores PolicyItself::score(const Question& question) {
  const at::NoGradGuard no_grad;
  const bool before = policy_.training();
  policy_.set_training(false);
  objective::ReferenceScores scores =
      objective::reference_scores(question.batch, question.options, answer(policy_, question));
  policy_.set_training(before);
  return scores;
}

void check_reference(const TrainingOptions& options) {
  const objective::ObjectiveOptions& objective = options.objective;
  if (options.reference.keeps_policy() || !objective.needs_reference()) return;
  const char* const kept = "reference.mode: cached keeps log-probabilities of recorded tokens, but ";
  APO_CHECK(ConfigError, !objective.uses_z0() || objective.z0 != objective::Z0Estimator::exact, kept,
            "objective.z0: exact compares whole distributions; expected objective.z0 shifted-labels, "
            "mismatched or none, or reference.mode copy or adapter");
  APO_CHECK(ConfigError, objective.hold() == 0, kept,
            "objective.reference_kl_weight compares whole distributions; expected "
            "objective.reference_kl_weight: 0, or reference.mode copy or adapter, found ",
            objective.hold());
  APO_CHECK(
      ConfigError, options.policy.lora.dropout == 0,
      "policy.lora.dropout: policy and reference must drop the same units, but reference.mode: cached "
      "scores the reference before any are drawn; expected 0, or reference.mode copy or adapter, found ",
      options.policy.lora.dropout);
}

std::unique_ptr<ReferenceScorer> make_reference_scorer(
    const TrainingOptions& options, models::Policy& policy, TrainingState& state,
    const std::optional<std::filesystem::path>& resume_from) {
  if (!options.objective.needs_reference()) return nullptr;
  if (!options.reference.keeps_policy()) return std::make_unique<CachedReference>();
  auto reference = std::make_unique<LiveReference>(policy, options.reference);
  if (!resume_from) {
    state.reference_stored = size_bytes(reference->parameters()) <= kLargestStoredReferenceBytes;
    if (!state.reference_stored) state.policy_hash = models::parameter_hash(policy);
  } else if (state.reference_stored) {
    restore_reference(*resume_from, reference->parameters());
  } else {
    APO_CHECK(DataError, models::parameter_hash(policy) == state.policy_hash,
              "policy.checkpoint: ", state.policy_checkpoint, ": cannot resume ", options.run.dir,
              ": these are not the weights that the run began with, and its reference is rebuilt from them");
  }
  return reference;
}

}  // namespace apo::training
