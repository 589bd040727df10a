// How far two tensors lie apart.
#pragma once

#include <torch/types.h>

#include <limits>

namespace apo::testing {

/// The largest absolute difference; infinite where one side has NaN or another shape.
inline double distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  if (a.numel() == 0) return 0;
  const at::Tensor off = (a.detach().to(at::kDouble) - b.detach().to(a.device(), at::kDouble)).abs();
  return off.nan_to_num(std::numeric_limits<double>::infinity()).max().item<double>();
}

}  // namespace apo::testing
