// Actions between the world's units and the numbers that are coded as tokens.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>

#include "apo/tokenizers/statistics.h"

namespace apo::tokenizers {

enum class Normalization {
  none,       ///< as they are
  quantiles,  ///< q01 and q99 become -1 and 1
  bounds,     ///< min and max become -1 and 1
  z_score,    ///< mean and standard deviation become 0 and 1
};

struct NormalizerOptions {
  Normalization how = Normalization::quantiles;
  double epsilon = 0;           ///< added to q99 - q01 or max - min, or to the standard deviation
  double inverse_epsilon = 0;   ///< the same on the way back
  bool clip = true;             ///< to [-1, 1], masked dimensions too
  bool all_dimensions = false;  ///< also those that the mask leaves as they are (not on the way back)
  bool to_float32 = true;       ///< rounds what comes out, as who trains in float32
  bool in_float32 = false;      ///< computes in float32, statistics rounded to it, both ways
  double zero_spread = 0;       ///< what a spread of exactly 0 counts as, both ways
  /// of numbers that the mask leaves as they are: how far they may lie outside min..max before they are
  /// refused
  double unmasked_margin = std::numeric_limits<double>::infinity();
  bool constant_to_zero = false;  ///< a dimension with min = max becomes 0 on the way there, masked or not
};

/// Of one checkpoint. Copies are independent and may be used from any thread.
///
///   quantiles  a' = 2 (a − q01) / (q99 − q01 + epsilon) − 1
///   bounds     a' = 2 (a − min) / (max − min + epsilon) − 1
///   z_score    a' = (a − mean) / (std + epsilon)
///
/// where the mask is true; other dimensions stay. Where a spread, its epsilon and `zero_spread` are 0,
/// a' = 0, and the way back gives q01, min or the mean whatever comes: never NaN.
class Normalizer {
 public:
  /// Actions of `size` numbers, as they are but clipped to [-1, 1].
  explicit Normalizer(int64_t size);
  /// DataError unless mean, std, min, max, q01, q99 and mask are of one size.
  Normalizer(VectorStatistics statistics, const NormalizerOptions& options);
  /// As a checkpoint says (never `automatic`). quantiles, bounds: with `epsilon` on the way there; OpenVLA's
  /// is 1e-8, which puts a = q99 into the last but one bin. released_apo: in every dimension, 1e-8 whatever
  /// `epsilon` says, not rounded.
  Normalizer(VectorStatistics statistics, ActionNormalization as, double epsilon);

  int64_t size() const { return statistics_.size(); }  ///< A
  const VectorStatistics& statistics() const { return statistics_; }
  const NormalizerOptions& options() const { return options_; }

  /// Shapes  actions [.., A] float64 on the CPU, returns the same. Adds to `num_clipped`, if given, how many
  ///         numbers were clipped by more than 1e-6, or moved where the mask is true and min = max.
  /// Errors  DataError for another size, and naming the dimension for a number beyond `unmasked_margin`
  at::Tensor normalize(const at::Tensor& actions, int64_t* num_clipped = nullptr) const;
  /// Shapes  normalized [.., A] of any floating-point type and device, returns [.., A] float32 on the CPU
  /// Errors  DataError for another size
  at::Tensor unnormalize(const at::Tensor& normalized) const;

 private:
  VectorStatistics statistics_;
  NormalizerOptions options_;
};

}  // namespace apo::tokenizers
