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
  /// Shapes  normalized [..., A] float in [-1, 1] (clamped; NaN is a DataError), returns [..., A] int64 in
  ///         [0, num_bins)
  at::Tensor encode(const at::Tensor& normalized) const;
  /// Shapes  bins [..., A] int64, returns [..., A] float32. DataError if a bin is out of range (looked at on
  /// the CPU only).
  at::Tensor decode(const at::Tensor& bins) const;

 private:
  int64_t num_bins_;
};

/// OpenVLA's action tokens: the last `num_bins` ids of the action vocabulary, counted downwards.
///
/// The `num_bins` edges b_k = −1 + 2 k / (num_bins − 1) bound num_bins − 1 intervals, whose centres an action
/// decodes to. An action a has the id size − (how many edges are <= a): size − 1 for a = −1 down to
/// size − num_bins for a = 1. Exactly 1 decodes like the last interval, so ids come back from their centres
/// except the first of the range.
/// Round trip error at most 1 / (num_bins − 1). Edges and centres are double, as in numpy.
///
/// Source  OpenVLA's ActionTokenizer; for the 7B model size = vocab_size − pad_to_multiple_of = 32000
class VocabularyActionBins {
 public:
  /// ConfigError unless 2 <= num_bins <= size.
  explicit VocabularyActionBins(int64_t action_vocabulary_size, int64_t num_bins = 256);

  int64_t size() const { return size_; }          ///< of the action vocabulary
  int64_t num_bins() const { return num_bins_; }  ///< edges, and ids
  int64_t first_id() const { return size_ - num_bins_; }
  int64_t last_id() const { return size_ - 1; }

  /// Shapes  normalized [..., A] float (clamped to [-1, 1]; NaN is a DataError), returns [..., A] int64 ids
  ///         within [first_id, last_id], on the same device
  at::Tensor encode(const at::Tensor& normalized) const;
  /// Shapes  ids [..., A] int64, returns [..., A] float32. Ids that are no action ids clamp, as in OpenVLA:
  ///         below the range to the highest centre, above it to the lowest.
  at::Tensor decode(const at::Tensor& ids) const;

 private:
  int64_t size_, num_bins_;
  at::Tensor edges_;    // [num_bins] double
  at::Tensor centers_;  // [num_bins - 1] double
};

}  // namespace apo::tokenizers
