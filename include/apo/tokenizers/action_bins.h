// Continuous actions as tokens: each normalised dimension becomes one of `num_bins` bins.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace apo::tokenizers {

/// Uniform bins over [-1, 1].
///
/// Bin b stands for the value −1 + 2 b / (num_bins − 1): both ends and, nearly, zero are representable.
/// Round trip error at most 1 / (num_bins − 1).
class ActionBins {
 public:
  explicit ActionBins(int64_t num_bins = 256);
  int64_t num_bins() const { return num_bins_; }
  /// Shapes  normalized [..., A] float in [-1, 1] (clamped; NaN is a DataError), returns [..., A] int64 in [0, num_bins)
  at::Tensor encode(const at::Tensor& normalized) const;
  /// Shapes  bins [..., A] int64, returns [..., A] float32. DataError if a bin is out of range.
  at::Tensor decode(const at::Tensor& bins) const;

 private:
  int64_t num_bins_;
};

}  // namespace apo::tokenizers
