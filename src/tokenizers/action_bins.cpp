#include "apo/tokenizers/action_bins.h"

#include <torch/types.h>

#include "apo/base/error.h"

namespace apo::tokenizers {

ActionBins::ActionBins(int64_t num_bins) : num_bins_(num_bins) {
  APO_CHECK(ConfigError, num_bins >= 2, "action bins: expected at least 2, found ", num_bins);
}

at::Tensor ActionBins::encode(const at::Tensor& normalized) const {
  APO_CHECK(DataError, normalized.is_floating_point(), "action bins: expected floating-point actions, found ",
            normalized.scalar_type());
  APO_CHECK(DataError, !normalized.isnan().any().item<bool>(),
            "action bins: found NaN in an action of shape ", normalized.sizes());
  // In double, so that a value half-way between two bins goes the same way on every machine.
  const at::Tensor share = (normalized.to(at::kDouble).clamp(-1, 1) + 1) / 2;
  return (share * static_cast<double>(num_bins_ - 1)).round().to(at::kLong);
}

at::Tensor ActionBins::decode(const at::Tensor& bins) const {
  APO_CHECK(DataError, bins.scalar_type() == at::kLong, "action bins: expected int64 bins, found ",
            bins.scalar_type());
  if (bins.numel() > 0) {
    const int64_t low = bins.min().item<int64_t>(), high = bins.max().item<int64_t>();
    APO_CHECK(DataError, low >= 0 && high < num_bins_, "action bins: expected bins in [0, ", num_bins_ - 1,
              "], found ", low < 0 ? low : high);
  }
  return (bins.to(at::kDouble) * (2.0 / static_cast<double>(num_bins_ - 1)) - 1).to(at::kFloat);
}

}  // namespace apo::tokenizers
