#include "apo/models/confidence.h"

#include <torch/types.h>

namespace apo::models {

std::vector<double> confidences(const std::vector<at::Tensor>& token_probs) {
  if (token_probs.empty()) return {};
  const at::Tensor mean = at::stack(token_probs, 1).nanmean(1).to(at::kCPU, at::kDouble).contiguous();
  return {mean.const_data_ptr<double>(), mean.const_data_ptr<double>() + mean.numel()};
}

}  // namespace apo::models
