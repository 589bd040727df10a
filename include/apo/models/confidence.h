// How sure a policy was of what it decided.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace apo::models {

/// [B] means of DecodeOptions::token_probs over each row's tokens. Empty where the policy did not say.
std::vector<double> confidences(const std::vector<at::Tensor>& token_probs);

}  // namespace apo::models
