#include "apo/tokenizers/normalizer.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "apo/base/error.h"

namespace apo::tokenizers {
namespace {

constexpr double kReleasedEpsilon = 1e-8;
constexpr double kRounding = 1e-6;  // a touch of rounding is no clipping

VectorStatistics nothing_known(int64_t size) {
  const auto n = static_cast<size_t>(size);
  const std::vector<double> zeros(n, 0), ones(n, 1), minus(n, -1);
  return {.mean = zeros,
          .std = ones,
          .min = minus,
          .max = ones,
          .q01 = minus,
          .q99 = ones,
          .mask = std::vector<bool>(n)};
}

NormalizerOptions options_of(ActionNormalization as, double epsilon) {
  APO_ASSERT(as != ActionNormalization::automatic);
  if (as == ActionNormalization::released_apo)
    return {.epsilon = kReleasedEpsilon, .all_dimensions = true, .to_float32 = false};
  return {.how = as == ActionNormalization::bounds ? Normalization::bounds : Normalization::quantiles,
          .epsilon = epsilon};
}

// What becomes -1 and what becomes 1.
std::pair<const std::vector<double>&, const std::vector<double>&> ends(const VectorStatistics& s,
                                                                       Normalization how) {
  if (how == Normalization::bounds) return {s.min, s.max};
  return {s.q01, s.q99};
}

void expect_size(const char* what, const at::Tensor& actions, int64_t size) {
  APO_CHECK(DataError, actions.dim() >= 1 && actions.size(-1) == size, what, ": expected ", size,
            " numbers as in the statistics, found ", actions.dim() >= 1 ? actions.size(-1) : 0);
}

}  // namespace

Normalizer::Normalizer(int64_t size) : Normalizer(nothing_known(size), {.how = Normalization::none}) {}

Normalizer::Normalizer(VectorStatistics statistics, const NormalizerOptions& options)
    : statistics_(std::move(statistics)), options_(options) {
  const VectorStatistics& s = statistics_;
  const size_t size = s.mean.size();
  APO_CHECK(DataError,
            size > 0 && s.std.size() == size && s.min.size() == size && s.max.size() == size &&
                s.q01.size() == size && s.q99.size() == size && s.mask.size() == size,
            "action statistics: expected mean, std, min, max, q01, q99 and mask of one size, found ", size,
            ", ", s.std.size(), ", ", s.min.size(), ", ", s.max.size(), ", ", s.q01.size(), ", ",
            s.q99.size(), " and ", s.mask.size());
}

Normalizer::Normalizer(VectorStatistics statistics, ActionNormalization as, double epsilon)
    : Normalizer(std::move(statistics), options_of(as, epsilon)) {}

at::Tensor Normalizer::normalize(const at::Tensor& actions, int64_t* num_clipped) const {
  expect_size("normalise", actions, size());
  const VectorStatistics& s = statistics_;
  const auto [low, high] = ends(s, options_.how);
  at::Tensor result = actions.to(at::kDouble).clone(at::MemoryFormat::Contiguous);
  double* x = result.data_ptr<double>();
  for (int64_t row = 0; row < result.numel(); row += size()) {
    for (size_t j = 0; j < s.mask.size(); ++j, ++x) {
      if (options_.how != Normalization::none && (s.mask[j] || options_.all_dimensions)) {
        const bool z = options_.how == Normalization::z_score;
        const double spread = (z ? s.std[j] : high[j] - low[j]) + options_.epsilon;
        if (!(spread > 0))
          *x = 0;
        else
          *x = z ? (*x - s.mean[j]) / spread : 2 * (*x - low[j]) / spread - 1;
      }
      if (!s.mask[j] && s.min[j] != s.max[j])
        APO_CHECK(
            DataError, *x >= s.min[j] - options_.unmasked_margin && *x <= s.max[j] + options_.unmasked_margin,
            "action: dimension ", j, ": found ", *x, ", outside the statistics' ", s.min[j], "..", s.max[j],
            " of what is not normalised: a gripper that the recording codes otherwise? Say how, `gripper: "
            "{open: .., closed: ..}` of the data source and policy.gripper");
      if (options_.constant_to_zero && s.min[j] == s.max[j]) *x = 0;
      if (options_.clip) {
        if (num_clipped != nullptr && std::abs(*x) > 1 + kRounding) ++*num_clipped;
        *x = std::clamp(*x, -1.0, 1.0);
      }
      if (options_.to_float32) *x = static_cast<double>(static_cast<float>(*x));
    }
  }
  return result;
}

at::Tensor Normalizer::unnormalize(const at::Tensor& normalized) const {
  expect_size("unnormalise", normalized, size());
  const VectorStatistics& s = statistics_;
  const auto [low, high] = ends(s, options_.how);
  const bool linear = options_.how == Normalization::quantiles || options_.how == Normalization::bounds;
  const at::Tensor given = normalized.to(at::kCPU, at::kDouble).contiguous();
  at::Tensor result = at::empty(given.sizes(), at::kFloat);
  const double* x = given.const_data_ptr<double>();
  float* out = result.data_ptr<float>();
  for (int64_t row = 0; row < given.numel(); row += size()) {
    for (size_t j = 0; j < s.mask.size(); ++j, ++x, ++out) {
      double value = *x;
      if (s.mask[j] && linear)
        value = (value + 1) / 2 * (high[j] - low[j] + options_.inverse_epsilon) + low[j];
      else if (s.mask[j] && options_.how == Normalization::z_score)
        value = value * (s.std[j] + options_.inverse_epsilon) + s.mean[j];
      *out = static_cast<float>(value);
    }
  }
  return result;
}

}  // namespace apo::tokenizers
