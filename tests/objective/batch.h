// Random batches, their parts, and numbers out of tensors, for the objective's tests.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <vector>

#include "apo/base/error.h"
#include "apo/objective/objective.h"
#include "support/message_of.h"
#include "support/near.h"

namespace apo::objective::testing {

using apo::testing::message_of;

struct BatchShape {
  int64_t samples = 6, tokens = 4, vocabulary = 11;
  at::ScalarType type = at::kDouble;
  uint64_t seed = 1;
};

/// Every third sample undesirable, the last token the end token (id 0), action bins 2..vocabulary-2, one
/// position masked, mismatched tokens rolled over the batch.
inline ObjectiveInput random_batch(const BatchShape& shape = {}) {
  auto random = at::make_generator<at::CPUGeneratorImpl>(shape.seed);
  const int64_t batch = shape.samples, tokens = shape.tokens, vocabulary = shape.vocabulary;
  const auto logits = [&] {
    return (at::randn({batch, tokens, vocabulary}, random, at::kDouble) * 2).to(shape.type);
  };
  ObjectiveInput input;
  input.first_action_token = 2, input.last_action_token = vocabulary - 2;
  input.policy_logits = logits();
  input.reference_logits = logits();
  input.tokens = at::randint(2, vocabulary - 1, {batch, tokens}, random, at::kLong);
  input.tokens.select(1, tokens - 1).zero_();
  input.end_token = at::zeros({batch, tokens}, at::kBool);
  input.end_token.select(1, tokens - 1).fill_(true);
  input.mask = at::ones({batch, tokens}, at::kBool);
  if (tokens > 2) input.mask[0][1] = false;
  input.desirable = at::arange(batch, at::kLong).remainder(3).ne(2);
  input.held = input.desirable.bitwise_and(at::arange(batch, at::kLong).ne(1));
  input.action_l1 = at::rand({batch}, random, at::kFloat) + 0.01;
  input.dimension_credit = at::rand({batch, tokens}, random, at::kFloat);
  input.sample_weight = at::rand({batch}, random, at::kFloat);
  input.mismatched_tokens = input.tokens.roll(-1, 0);
  input.mismatched_mask = input.mask.roll(-1, 0);
  input.mismatched_end_token = input.end_token.roll(-1, 0);
  input.mismatched_policy_logits = logits();
  input.mismatched_reference_logits = logits();
  return input;
}

/// Every tensor of the input through one function.
template <class F>
ObjectiveInput transformed(ObjectiveInput input, F&& function) {
  for (at::Tensor* tensor :
       {&input.policy_logits, &input.reference_logits, &input.tokens, &input.mask, &input.end_token,
        &input.desirable, &input.held, &input.action_l1, &input.dimension_credit, &input.sample_weight,
        &input.mismatched_tokens, &input.mismatched_mask, &input.mismatched_end_token,
        &input.mismatched_policy_logits, &input.mismatched_reference_logits})
    if (tensor->defined()) *tensor = function(*tensor);
  return input;
}

/// Samples begin..end-1 of a batch; a view, so that gradients reach the whole batch's logits.
inline ObjectiveInput samples(const ObjectiveInput& input, int64_t begin, int64_t end) {
  return transformed(input, [&](const at::Tensor& tensor) { return tensor.slice(0, begin, end); });
}

/// What is kept of the input's reference, and the loss with it in place of the reference's logits.
inline ReferenceScores kept_of(const ObjectiveInput& input, const ObjectiveOptions& options) {
  return reference_scores(input, options, {input.reference_logits, input.mismatched_reference_logits});
}
inline ScoredBatch score_with(const ReferenceScores& kept, const ObjectiveInput& input,
                              const ObjectiveOptions& options, Reading reading = {}) {
  return score(static_cast<const Batch&>(input), options,
               {input.policy_logits, input.mismatched_policy_logits}, kept, reading);
}
inline ObjectiveOutput loss_with(const ReferenceScores& kept, const ObjectiveInput& input,
                                 const ObjectiveOptions& options) {
  const ScoredBatch scored = score_with(kept, input, options);
  return evaluate(scored, measure(scored));
}

inline double number(const at::Tensor& tensor) { return tensor.item<double>(); }

using apo::testing::distance;

/// A fresh leaf that gradients flow to.
inline at::Tensor leaf(const at::Tensor& tensor) { return tensor.detach().clone().set_requires_grad(true); }

inline std::vector<Z0Estimator> all_estimators() {
  return {Z0Estimator::shifted_labels, Z0Estimator::mismatched, Z0Estimator::exact, Z0Estimator::none};
}

}  // namespace apo::objective::testing
