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

// The normalisation of one dimension, in the arithmetic of T.
template <class T>
class Dimension {
 public:
  Dimension(const VectorStatistics& s, size_t j, const NormalizerOptions& options, double epsilon)
      : z_(options.how == Normalization::z_score),
        center_(static_cast<T>(z_ ? s.mean[j] : ends(s, options.how).first[j])),
        spread_(z_ ? static_cast<T>(s.std[j]) : static_cast<T>(ends(s, options.how).second[j]) - center_) {
    spread_ += static_cast<T>(epsilon);
    if (spread_ == 0) spread_ = static_cast<T>(options.zero_spread);
  }
  double there(double given) const {
    const auto x = static_cast<T>(given);
    if (!(spread_ > 0)) return 0;
    return static_cast<double>(z_ ? (x - center_) / spread_ : 2 * (x - center_) / spread_ - 1);
  }
  double back(double given) const {
    const auto y = static_cast<T>(given);
    return static_cast<double>(z_ ? y * spread_ + center_ : (y + 1) / 2 * spread_ + center_);
  }

 private:
  bool z_;
  T center_, spread_;
};

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
  at::Tensor result = actions.to(at::kDouble).clone(at::MemoryFormat::Contiguous);
  double* x = result.data_ptr<double>();
  for (int64_t row = 0; row < result.numel(); row += size()) {
    for (size_t j = 0; j < s.mask.size(); ++j, ++x) {
      const double given = *x;
      const bool pinned = options_.how != Normalization::none && !options_.all_dimensions && s.mask[j] &&
                          s.min[j] == s.max[j];
      if (options_.how != Normalization::none && (s.mask[j] || options_.all_dimensions)) {
        *x = options_.in_float32 ? Dimension<float>(s, j, options_, options_.epsilon).there(*x)
                                 : Dimension<double>(s, j, options_, options_.epsilon).there(*x);
      }
      if (!s.mask[j] && s.min[j] != s.max[j])
        APO_CHECK(
            DataError, *x >= s.min[j] - options_.unmasked_margin && *x <= s.max[j] + options_.unmasked_margin,
            "action: dimension ", j, ": found ", *x, ", outside the statistics' ", s.min[j], "..", s.max[j],
            " of what is not normalised: a gripper that the recording codes otherwise? Say how, `gripper: "
            "{open: .., closed: ..}` of the data source and policy.gripper");
      if (options_.constant_to_zero && s.min[j] == s.max[j]) *x = 0;
      if (options_.clip) {
        const bool lost = pinned ? std::abs(given - s.min[j]) > kRounding : std::abs(*x) > 1 + kRounding;
        if (num_clipped != nullptr && lost) ++*num_clipped;
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
  const at::Tensor given = normalized.to(at::kCPU, at::kDouble).contiguous();
  at::Tensor result = at::empty(given.sizes(), at::kFloat);
  const double* x = given.const_data_ptr<double>();
  float* out = result.data_ptr<float>();
  for (int64_t row = 0; row < given.numel(); row += size()) {
    for (size_t j = 0; j < s.mask.size(); ++j, ++x, ++out) {
      double value = *x;
      if (s.mask[j] && options_.how != Normalization::none)
        value = options_.in_float32 ? Dimension<float>(s, j, options_, options_.inverse_epsilon).back(value)
                                    : Dimension<double>(s, j, options_, options_.inverse_epsilon).back(value);
      *out = static_cast<float>(value);
    }
  }
  return result;
}

}  // namespace apo::tokenizers
