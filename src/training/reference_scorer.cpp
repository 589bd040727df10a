#include "training/reference_scorer.h"

#include <torch/types.h>

#include "apo/base/error.h"
#include "training/cached_reference.h"
#include "training/checkpoint.h"

namespace apo::training {
namespace {

class EvaluationMode {
 public:
  explicit EvaluationMode(models::Policy& policy) : policy_(policy), before_(policy.training()) {
    policy_.set_training(false);
  }
  ~EvaluationMode() { policy_.set_training(before_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  models::Policy& policy_;
  bool before_;
};

}  // namespace

objective::ReferenceScores LiveReference::score(const Question& question) {
  return objective::reference_scores(question.batch, question.options, answer(reference_, question));
}

objective::ReferenceScores PolicyItself::score(const Question& question) {
  const at::NoGradGuard no_grad;
  const EvaluationMode evaluation(policy_);
  return objective::reference_scores(question.batch, question.options, answer(policy_, question));
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
