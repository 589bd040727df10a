// A batch that is small enough for a pencil.
#pragma once

#include <torch/types.h>

#include <cmath>

#include "apo/objective/objective.h"

namespace apo::objective::testing {

// The bare published loss, whose weights add up to one in the batch as it is: small enough for a pencil.
inline const ObjectiveOptions kPaper{.preset = Preset::paper, .weights = {.group_size = 0}};

// Two samples, two tokens, two words: small enough for a pencil.
inline ObjectiveInput pencil_batch() {
  const double ln3 = std::log(3.0);
  ObjectiveInput input;
  // sample A (desirable), tokens (0, 1): p = (3/4, 1/4), (1/2, 1/2); p_ref = (1/2, 1/2), (3/4, 1/4)
  // sample B (undesirable), tokens (1, 1): p = (1/4, 3/4), (1/2, 1/2); p_ref = (1/2, 1/2), (1/2, 1/2)
  input.policy_logits = at::tensor({ln3, 0.0, 0.0, 0.0, 0.0, ln3, 0.0, 0.0}, at::kDouble).view({2, 2, 2});
  input.reference_logits = at::tensor({0.0, 0.0, ln3, 0.0, 0.0, 0.0, 0.0, 0.0}, at::kDouble).view({2, 2, 2});
  input.tokens = at::tensor({0, 1, 1, 1}, at::kLong).view({2, 2});
  input.desirable = at::tensor({1, 0}, at::kLong).to(at::kBool);
  input.action_l1 = at::tensor({0.3, 0.1}, at::kFloat);
  return input;
}

}  // namespace apo::objective::testing
