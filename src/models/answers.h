// What is scored behind an observation, as every token policy reads it.
#pragma once

#include <torch/types.h>

#include <vector>

#include "apo/base/error.h"
#include "apo/models/policy.h"

namespace apo::models {

/// The ids of the answer and, where there is one, of the mismatched answer to the same observations, [B, T]
/// each. DataError for other shapes.
inline std::vector<at::Tensor> answers_of(const PolicyInput& input, const ActionTokens& tokens,
                                          const ActionTokens* mismatched) {
  std::vector<at::Tensor> answers{tokens.ids};
  if (mismatched != nullptr) answers.push_back(mismatched->ids);
  for (const at::Tensor& answer : answers)
    APO_CHECK(DataError,
              answer.defined() && answer.dim() == 2 && answer.size(0) == input.size() && answer.size(1) >= 1,
              "action tokens: expected ids [", input.size(), ", at least 1], found ",
              answer.defined() ? concat(answer.sizes()) : "nothing");
  return answers;
}

}  // namespace apo::models
