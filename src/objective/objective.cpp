#include "apo/objective/objective.h"

#include <torch/types.h>

#include <limits>

#include "apo/objective/weights.h"
#include "objective/checks.h"
#include "objective/pair_loss.h"
#include "objective/z0.h"

namespace apo::objective {
namespace {

// r = Σ_t log π − log π_ref over the tokens that count, [B]; masked ones are 0 already.
at::Tensor reward_of(at::Tensor log_ratio, const Batch& batch, const ObjectiveOptions& options) {
  const at::Tensor undesirable = batch.desirable.bitwise_not().unsqueeze(-1);
  if (options.released_code()) log_ratio = log_ratio.masked_fill(batch.end_token.bitwise_and(undesirable), 0);
  if (options.credit == Credit::dimension && batch.dimension_credit.defined()) {
    const at::Tensor credit = batch.dimension_credit.detach().to(log_ratio.scalar_type());
    log_ratio = at::where(undesirable, log_ratio * credit, log_ratio);
  }
  return log_ratio.sum(-1);
}

// How much each sample is imitated, [B]: what the anchor, sft and weighted-bc average over.
at::Tensor imitation_weight(const Batch& batch, const ObjectiveOptions& options, at::ScalarType type) {
  return (options.type == ObjectiveType::weighted_bc ? batch.sample_weight.detach() : batch.desirable)
      .to(type);
}

// Mean cross-entropy over the imitated tokens of the whole batch; this batch's share of it.
at::Tensor sft_loss(const at::Tensor& policy, const Batch& batch, const ObjectiveOptions& options,
                    const BatchStatistics& whole_batch) {
  const at::Tensor weight = imitation_weight(batch, options, policy.scalar_type()).unsqueeze(-1);  // [B, 1]
  // samples that are not imitated leave no trace, not even 0 · inf
  const at::Tensor weighted = (policy * weight).masked_fill(weight.eq(0), 0);
  const at::Tensor tokens = whole_batch[BatchStatistics::sft_tokens];
  return -weighted.sum() / tokens.masked_fill(tokens.eq(0), 1).to(policy.scalar_type());
}

// Mean KL(reference‖policy) over the held tokens of the whole batch; this batch's share of it.
at::Tensor hold_loss(const at::Tensor& reference_kl, const BatchStatistics& whole_batch) {
  const at::Tensor tokens = whole_batch[BatchStatistics::held_tokens];
  return reference_kl.sum() / tokens.clamp_min(1).to(reference_kl.scalar_type());
}

// What a preference loss is a sum over in the whole batch: samples or pairs. 1 where there are none.
at::Tensor num_terms(const ObjectiveOptions& options, const BatchStatistics& whole_batch) {
  using S = BatchStatistics;
  const at::Tensor terms = options.needs_pairs()
                               ? whole_batch[S::num_pairs]
                               : whole_batch[S::num_desirable] + whole_batch[S::num_undesirable];
  return terms.clamp_min(1);
}

at::Tensor detached(const at::Tensor& tensor) { return tensor.defined() ? tensor.detach() : tensor; }

// L of apo and kto without reduction and anchor; fills in what belongs to it.
at::Tensor preference_loss(const Batch& batch, const ObjectiveOptions& options,
                           const BatchStatistics& whole_batch, const TokenScores& scores,
                           ObjectiveOutput& out) {
  const auto type = scores.policy.scalar_type();
  // z0, w, λ: constants
  const Z0 z0 = z0_of(options, whole_batch);
  const SampleWeights weights = sample_weights(batch.action_l1, batch.desirable, options, whole_batch);
  out.z0 = z0.value, out.z0_unclamped = z0.unclamped;
  out.z0_standard_error = z0.standard_error, out.z0_clamped = z0.clamped;
  const at::Tensor none = at::zeros({}, weights.lambda.options());
  out.lambda_desirable = at::where(batch.desirable, weights.lambda, none).sum();
  out.lambda_undesirable = at::where(batch.desirable, none, weights.lambda).sum();
  out.weight = weights.weight.to(type), out.lambda = weights.lambda.to(type);

  const at::Tensor reward = reward_of(scores.policy - scores.reference.detach(), batch, options);  // [B]
  // 1 − v = 1 − σ(±β(r − z0)) = σ(∓β(r − z0)): minus for desirable samples
  const at::Tensor margin = (reward - z0.value.to(type)) * options.beta;
  const at::Tensor sample_loss = at::sigmoid(at::where(batch.desirable, -margin, margin));
  out.reward = reward.detach(), out.sample_loss = sample_loss.detach();
  return (sample_loss * out.lambda).sum();
}

// L of dpo and tpo without reduction and anchor.
at::Tensor paired_loss(const Batch& batch, const ObjectiveOptions& options,
                       const BatchStatistics& whole_batch, const TokenScores& scores, ObjectiveOutput& out) {
  return pair_loss(batch, options, whole_batch, (scores.policy - scores.reference.detach()).sum(-1), out);
}

// L of sft and weighted-bc: the reports that a preference loss has, in their terms.
void describe_imitation(const Batch& batch, const ObjectiveOptions& options,
                        const BatchStatistics& whole_batch, const TokenScores& scores, ObjectiveOutput& out) {
  const auto type = scores.policy.scalar_type();
  const at::Tensor tokens = batch.mask.sum(-1).clamp_min(1).to(type);
  out.sample_loss = -scores.policy.detach().sum(-1) / tokens;
  out.lambda = imitation_weight(batch, options, type);
  const at::Tensor total = whole_batch[BatchStatistics::sft_tokens];
  out.weight = out.lambda * tokens / total.masked_fill(total.eq(0), 1).to(type);
}

void check_read(const char* purpose, bool there) {
  APO_CHECK(RunError, there, "objective: expected a batch that `score` read for its ", purpose,
            " (Reading::", purpose, "), found one that was read for something else");
}

}  // namespace

BatchStatistics& BatchStatistics::operator+=(const BatchStatistics& other) {
  if (!other.sums.defined()) return *this;
  sums = sums.defined() ? sums + other.sums : other.sums.clone();
  return *this;
}

at::Tensor BatchStatistics::operator[](Index index) const { return sums.select(0, index); }

Batch Batch::slice(int64_t begin, int64_t end) const {
  Batch part = *this;
  for (at::Tensor* tensor : {&part.tokens, &part.mask, &part.end_token, &part.desirable, &part.held,
                             &part.action_l1, &part.dimension_credit, &part.sample_weight, &part.pair,
                             &part.mismatched_tokens, &part.mismatched_mask, &part.mismatched_end_token})
    if (tensor->defined()) *tensor = tensor->slice(0, begin, end);
  return part;
}

BatchStatistics measure(const ScoredBatch& scored) {
  const at::NoGradGuard no_grad;
  const Batch& batch = scored.batch;
  const ObjectiveOptions& options = scored.options;
  const at::Tensor& z0_terms = scored.scores.z0_terms;
  check_action_l1(batch, options);
  check_read("statistics", z0_terms.defined() || !options.estimates_z0());
  const at::Tensor desirable = batch.desirable.to(at::kDouble);
  const at::Tensor undesirable = 1 - desirable;
  const at::Tensor zero = at::zeros({}, desirable.options());
  at::Tensor l1_desirable = zero, l1_undesirable = zero, z0_sum = zero, z0_square_sum = zero, z0_count = zero;
  if (batch.action_l1.defined()) {
    // a NaN of one group must not reach the other's sum
    const at::Tensor l = batch.action_l1.to(at::kDouble);
    l1_desirable = at::where(batch.desirable, l, zero).sum();
    l1_undesirable = at::where(batch.desirable, zero, l).sum();
  }
  if (z0_terms.defined()) {
    const at::Tensor sample_terms = z0_terms.to(at::kDouble).sum(-1);  // [B]
    z0_sum = sample_terms.sum();
    z0_square_sum = sample_terms.square().sum();
    z0_count = at::ones_like(desirable).sum();
  }
  const at::Tensor num_pairs = options.needs_pairs() ? whole_pairs(batch).sum().to(at::kDouble) : zero;
  const at::Tensor sft_tokens =
      (imitation_weight(batch, options, at::kDouble) * batch.mask.sum(-1).to(at::kDouble)).sum();
  const at::Tensor held_tokens = options.hold() > 0 ? held_mask(batch).sum().to(at::kDouble) : zero;
  // in the order of BatchStatistics::Index
  return {at::stack({desirable.sum(), undesirable.sum(), l1_desirable, l1_undesirable, z0_sum, z0_square_sum,
                     z0_count, sft_tokens, num_pairs, held_tokens})};
}

ObjectiveOutput evaluate(const ScoredBatch& scored, const BatchStatistics& whole_batch) {
  const Batch& batch = scored.batch;
  const ObjectiveOptions& options = scored.options;
  const TokenScores& scores = scored.scores;
  check_action_l1(batch, options);
  check_read("loss", scores.policy.defined() && (scores.reference.defined() || !options.needs_reference()) &&
                         (scores.reference_kl.defined() || options.hold() == 0));
  APO_CHECK(RunError, whole_batch.sums.defined() && whole_batch.sums.numel() == BatchStatistics::kSize,
            "objective: the batch's statistics: expected ", int64_t{BatchStatistics::kSize},
            " sums from measure, found ", whole_batch.sums.defined() ? whole_batch.sums.numel() : 0);
  const BatchStatistics whole{whole_batch.sums.to(batch.tokens.device(), at::kDouble)};
  ObjectiveOutput out;
  out.token_log_probs = scores.policy.detach();
  out.reference_token_log_probs = detached(scores.reference);
  out.log_prob = out.token_log_probs.sum(-1);
  if (scores.reference.defined()) out.reference_log_prob = out.reference_token_log_probs.sum(-1);

  const double anchor = options.imitates() ? 1 : options.anchor();
  at::Tensor held_to;  // what stands beside one term of the preference loss
  if (anchor > 0) {
    const at::Tensor imitation = sft_loss(scores.policy, batch, options, whole);
    out.sft_loss = imitation.detach();
    held_to = imitation * anchor;
  }
  if (scores.reference_kl.defined()) {
    const at::Tensor hold = hold_loss(scores.reference_kl, whole);
    const at::Tensor nobody = whole[BatchStatistics::held_tokens].eq(0);
    out.reference_kl = hold.detach().masked_fill(nobody, std::numeric_limits<double>::quiet_NaN());
    held_to = held_to.defined() ? held_to + hold * options.hold() : hold * options.hold();
  }
  if (options.imitates()) {
    describe_imitation(batch, options, whole, scores, out);
    out.loss = held_to;
    return out;
  }
  out.loss = options.needs_pairs() ? paired_loss(batch, options, whole, scores, out)
                                   : preference_loss(batch, options, whole, scores, out);
  // beside one term of the sum, so that the two reductions differ by a factor alone
  const at::Tensor terms = num_terms(options, whole).to(out.loss.scalar_type());
  const bool mean = options.reduction_used() == Reduction::mean;
  if (mean) out.loss = out.loss / terms;
  if (held_to.defined()) out.loss = out.loss + (mean ? held_to : held_to * terms);
  return out;
}

ScoredBatch score(const ObjectiveInput& input, const ObjectiveOptions& options, Reading reading) {
  const Score policy{input.policy_logits, input.mismatched_policy_logits};
  ReferenceScores reference;
  const bool needs_z0 = reading.statistics && options.estimates_z0();
  if (options.needs_reference() && (reading.loss || needs_z0)) {
    check_logits("policy_logits", policy.logits);
    const auto like = [&](const char* name, const at::Tensor& tensor) {
      check_like(name, tensor, input.policy_logits.sizes(), input.policy_logits.scalar_type(),
                 input.policy_logits.device());
    };
    like("reference_logits", input.reference_logits);
    if (options.needs_mismatched_logits()) {
      like("mismatched_policy_logits", input.mismatched_policy_logits);
      like("mismatched_reference_logits", input.mismatched_reference_logits);
    }
    reference = reference_scores(input, options, {input.reference_logits, input.mismatched_reference_logits});
  }
  return score(static_cast<const Batch&>(input), options, policy, reference, reading);
}

BatchStatistics measure(const ObjectiveInput& input, const ObjectiveOptions& options) {
  return measure(score(input, options, {.loss = false}));
}

ObjectiveOutput evaluate(const ObjectiveInput& input, const ObjectiveOptions& options,
                         const BatchStatistics& whole_batch) {
  return evaluate(score(input, options, {.statistics = false}), whole_batch);
}

ObjectiveOutput apo_loss(const ObjectiveInput& input, const ObjectiveOptions& options) {
  const ScoredBatch scored = score(input, options);
  return evaluate(scored, measure(scored));
}

}  // namespace apo::objective
