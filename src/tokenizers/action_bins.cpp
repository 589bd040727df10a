#include "apo/tokenizers/action_bins.h"

#include <torch/types.h>

#include "apo/base/error.h"

namespace apo::tokenizers {
namespace {

void expect_actions(const at::Tensor& normalized) {
  APO_CHECK(DataError, normalized.is_floating_point(), "action bins: expected floating-point actions, found ",
            normalized.scalar_type());
  APO_CHECK(DataError, !normalized.isnan().any().item<bool>(),
            "action bins: found NaN in an action of shape ", normalized.sizes());
}

void expect_ids(const at::Tensor& ids) {
  APO_CHECK(DataError, ids.scalar_type() == at::kLong, "action bins: expected int64 ids, found ",
            ids.scalar_type());
}

}  // namespace

ActionBins::ActionBins(int64_t num_bins) : num_bins_(num_bins) {
  APO_CHECK(ConfigError, num_bins >= 2, "action bins: expected at least 2, found ", num_bins);
}

at::Tensor ActionBins::encode(const at::Tensor& normalized) const {
  expect_actions(normalized);
  // In double, so that a value half-way between two bins goes the same way on every machine.
  const at::Tensor share = (normalized.to(at::kDouble).clamp(-1, 1) + 1) / 2;
  return (share * static_cast<double>(num_bins_ - 1)).round().to(at::kLong);
}

at::Tensor ActionBins::decode(const at::Tensor& bins) const {
  expect_ids(bins);
  if (bins.numel() > 0 && bins.device().is_cpu()) {  // a look at another device would wait for it
    const int64_t low = bins.min().item<int64_t>(), high = bins.max().item<int64_t>();
    APO_CHECK(DataError, low >= 0 && high < num_bins_, "action bins: expected bins in [0, ", num_bins_ - 1,
              "], found ", low < 0 ? low : high);
  }
  return (bins.to(at::kDouble) * (2.0 / static_cast<double>(num_bins_ - 1)) - 1).to(at::kFloat);
}

VocabularyActionBins::VocabularyActionBins(int64_t action_vocabulary_size, int64_t num_bins)
    : size_(action_vocabulary_size), num_bins_(num_bins) {
  APO_CHECK(ConfigError, num_bins >= 2 && num_bins <= action_vocabulary_size,
            "action bins: expected from 2 to as many as the action vocabulary's ", action_vocabulary_size,
            ", found ", num_bins);
  // as numpy.linspace: the last edge is the end itself
  edges_ = at::arange(num_bins, at::kDouble) * (2.0 / static_cast<double>(num_bins - 1)) - 1;
  edges_[num_bins - 1] = 1.0;
  centers_ = (edges_.narrow(0, 0, num_bins - 1) + edges_.narrow(0, 1, num_bins - 1)) / 2;
}

at::Tensor VocabularyActionBins::encode(const at::Tensor& normalized) const {
  expect_actions(normalized);
  const at::Tensor actions = normalized.to(at::kDouble).clamp(-1, 1).contiguous();
  return size_ - at::bucketize(actions, edges_.to(normalized.device()), /*out_int32=*/false, /*right=*/true);
}

at::Tensor VocabularyActionBins::decode(const at::Tensor& ids) const {
  expect_ids(ids);
  const at::Tensor intervals = last_id() - ids.clamp(last_id() - (num_bins_ - 2), last_id());
  return centers_.to(ids.device()).index({intervals}).to(at::kFloat);
}

}  // namespace apo::tokenizers
