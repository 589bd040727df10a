// The only place that sees the vocabulary: logits in, numbers a token out, read once and piece by piece.
#include <torch/types.h>

#include <utility>
#include <vector>

#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"
#include "objective/checks.h"

namespace apo::objective {
namespace {

LabelSmoothing smoothing_of(const Batch& batch, const ObjectiveOptions& options) {
  return {options.label_smoothing_bins, batch.first_action_token, batch.last_action_token};
}

// [B, T] which of the next sample's tokens z0 counts: at places that both answers have. Of a shorter own
// answer the logits are padding (shifted-labels), and sums over more places than its own would be another
// scale.
at::Tensor counted_mismatched(const Batch& batch, const ObjectiveOptions& options) {
  const at::Tensor mask = batch.mismatched_mask.bitwise_and(batch.mask);
  return options.released_code() ? mask.bitwise_and(batch.mismatched_end_token.bitwise_not()) : mask;
}

// [B, T] without gradient: log-probs of the next sample's tokens on logits that were teacher-forced on them.
at::Tensor mismatched_log_probs(const Logits& logits, const Batch& batch, const ObjectiveOptions& options) {
  const at::NoGradGuard no_grad;
  const at::Tensor mask = counted_mismatched(batch, options);
  return logits.read([&](const Logits::Piece& piece) {
    return token_log_probs(piece.logits, piece.of(batch.mismatched_tokens), piece.of(mask),
                           smoothing_of(batch, options));
  });
}

// Numbers that have no gradient, gathered beside the reading that has one: piece by piece, the first time
// only.
class Aside {
 public:
  void add(const Logits::Piece& piece, const at::Tensor& values) {
    shape_whole_ = piece.whole;
    parts_.push_back(values);
  }
  at::Tensor all(const at::Tensor& like) const {
    if (parts_.empty() || shape_whole_) return parts_.empty() ? at::Tensor() : parts_.front();
    return at::cat(parts_, -1).reshape(like.sizes());
  }

 private:
  std::vector<at::Tensor> parts_;
  bool shape_whole_ = false;
};

// What one reading of the policy's logits finds. `reference` gives their rows to what compares distributions.
void read_policy(const Batch& batch, const ObjectiveOptions& options, const Logits& policy,
                 const Logits& reference, Reading reading, TokenScores& scores) {
  const bool z0 = reading.statistics && options.uses_z0();
  const bool shifted = z0 && options.z0 == Z0Estimator::shifted_labels;
  const bool exact = z0 && options.z0 == Z0Estimator::exact;
  const bool hold = reading.loss && options.hold() > 0;
  if (!reading.loss && !reading.greedy && !shifted && !exact) return;
  const LabelSmoothing smoothing = smoothing_of(batch, options);
  const at::Tensor shifted_mask = shifted ? counted_mismatched(batch, options) : at::Tensor();
  const at::Tensor held = hold ? held_mask(batch) : at::Tensor();
  const at::Tensor exact_mask =
      options.released_code() ? batch.mask.bitwise_and(batch.end_token.bitwise_not()) : batch.mask;
  const std::pair<int64_t, int64_t> range =
      options.compatibility == Compatibility::released_code ||
              batch.last_action_token < batch.first_action_token
          ? std::pair<int64_t, int64_t>{-1, -1}
          : std::pair<int64_t, int64_t>{batch.first_action_token, batch.last_action_token};
  Aside next, kl, greedy;  // only reached while this function runs: the first time

  const auto read = [=, loss = reading.loss, tokens = batch.tokens, mask = batch.mask,
                     wants_greedy = reading.greedy, next_tokens = batch.mismatched_tokens, &next, &kl,
                     &greedy](const Logits::Piece& piece) {
    const bool first = !piece.repeated;
    if (first && wants_greedy) greedy.add(piece, greedy_tokens(piece.logits, range.first, range.second));
    at::Tensor beside;  // the reference's rows
    if (hold || (first && exact)) beside = piece.of(reference);
    if (first && exact) kl.add(piece, token_kl(piece.logits, beside, piece.of(exact_mask)));
    std::vector<at::Tensor> found;  // with gradient
    if (loss && first && shifted) {
      const auto [own, of_next] = token_log_probs(piece.logits, piece.of(tokens), piece.of(mask),
                                                  piece.of(next_tokens), piece.of(shifted_mask), smoothing);
      found.push_back(own);
      next.add(piece, of_next);
    } else if (loss) {
      found.push_back(token_log_probs(piece.logits, piece.of(tokens), piece.of(mask), smoothing));
    } else if (shifted) {
      const at::NoGradGuard no_grad;
      next.add(piece,
               token_log_probs(piece.logits, piece.of(next_tokens), piece.of(shifted_mask), smoothing));
    }
    if (hold) found.push_back(token_reference_kl(piece.logits, beside, piece.of(held)));
    if (found.empty()) found.push_back(at::zeros(piece.of(mask).sizes(), piece.logits.options()));
    return at::stack(found);  // [1 or 2, B, T]
  };
  const at::Tensor found = policy.read(read);
  if (reading.loss) scores.policy = found.select(0, 0);
  if (hold) scores.reference_kl = found.select(0, 1);
  scores.greedy = greedy.all(batch.tokens);
  if (exact) scores.z0_terms = kl.all(batch.tokens);
  if (shifted) scores.z0_terms = next.all(batch.tokens);  // the policy's half
}

}  // namespace

ReferenceScores reference_scores(const Batch& given, const ObjectiveOptions& options,
                                 const Score& reference) {
  const at::NoGradGuard no_grad;
  const Batch batch = completed(given, options, "reference_logits", reference.logits, /*needed=*/true);
  const LabelSmoothing smoothing = smoothing_of(batch, options);
  ReferenceScores scores;
  if (options.compares_distributions()) scores.logits = reference.logits.detach();
  const bool shifted = options.uses_z0() && options.z0 == Z0Estimator::shifted_labels;
  const at::Tensor shifted_mask = shifted ? counted_mismatched(batch, options) : at::Tensor();
  const at::Tensor found = reference.logits.read([&](const Logits::Piece& piece) {
    const at::Tensor tokens = piece.of(batch.tokens), mask = piece.of(batch.mask);
    if (!shifted) return token_log_probs(piece.logits, tokens, mask, smoothing).unsqueeze(0);
    const auto [own, next] = token_log_probs(piece.logits, tokens, mask, piece.of(batch.mismatched_tokens),
                                             piece.of(shifted_mask), smoothing);
    return at::stack({own, next});
  });
  scores.tokens = found.select(0, 0);
  if (shifted) scores.mismatched = found.select(0, 1);
  if (options.needs_mismatched_logits()) {
    check_same("mismatched_reference_logits", reference.mismatched_logits, batch.tokens);
    scores.mismatched = mismatched_log_probs(reference.mismatched_logits, batch, options);
  }
  return scores;
}

ScoredBatch score(const Batch& given, const ObjectiveOptions& options, const Score& policy,
                  const ReferenceScores& reference, Reading reading) {
  const bool z0 = reading.statistics && options.estimates_z0();
  const bool reads_policy = reading.loss || reading.greedy || (z0 && options.z0 != Z0Estimator::mismatched);
  ScoredBatch scored{completed(given, options, "policy_logits", policy.logits, reads_policy), options, {}};
  const Batch& batch = scored.batch;
  TokenScores& scores = scored.scores;
  if (options.needs_reference() && (reading.loss || z0)) {
    check_reference(reference, batch, options);
    // masked positions are nobody's, whatever was kept of them
    scores.reference = reference.tokens.masked_fill(batch.mask.bitwise_not(), 0);
  }
  read_policy(batch, options, policy.logits, reference.logits, reading, scores);
  if (z0 && options.needs_mismatched_tokens()) {
    if (options.z0 == Z0Estimator::mismatched) {
      check_same("mismatched_policy_logits", policy.mismatched_logits, batch.tokens);
      scores.z0_terms = mismatched_log_probs(policy.mismatched_logits, batch, options);
    }
    scores.z0_terms = scores.z0_terms -
                      reference.mismatched.masked_fill(counted_mismatched(batch, options).bitwise_not(), 0);
  }
  return scored;
}

}  // namespace apo::objective
