// Which steps form batch number N: a pure function of (seed, N), so that resuming needs no state but N.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "apo/data/dataset.h"

namespace apo::data {

/// Samples a batch of each pool (desirable, intervention, undesirable).
/// ConfigError unless the shares are at least 0 with a positive sum (they are normalised) and every positive
/// one comes to a sample at this batch size.
std::array<int64_t, 3> batch_counts(const PoolOptions& pools, int64_t batch_size);

/// What a batch is drawn from: steps one by one, or both whole segments of a take-over at once.
enum class Draw { steps, segment_pairs };

/// Draws batches from three pools at fixed shares; each pool is gone through in a new random order every time
/// it is used up (without replacement within a pass).
///
/// The slots of a batch are shuffled, so that neighbours (the mismatched pairs of z0) mix pools and tasks.
/// With Draw::segment_pairs the shares of the intervention and undesirable pools together are filled with
/// whole segment pairs (Dataset::segment_pairs): as many a batch as their mean length lets into that share,
/// at least one. The number of samples then varies from batch to batch.
/// Source  released dataset/sampler.py (0.5 / 0.25 / 0.25; an epoch is one pass over the intervention pool).
/// Differs there the order inside a batch is fixed (pools one after the other).
class PoolSampler {
 public:
  /// ConfigError as batch_counts, or if a pool with a positive share is empty (naming the pool and the
  /// option).
  PoolSampler(const Dataset& dataset, const PoolOptions& pools, int64_t batch_size, uint64_t seed,
              Draw draw = Draw::steps);

  /// The steps of batch `position` >= 0; `batch_size` of them unless segment pairs are drawn.
  std::vector<StepIndex> batch(int64_t position) const;
  /// Samples a batch of each pool (desirable, intervention, undesirable); with segment pairs of the latter
  /// two on average.
  std::array<int64_t, 3> counts() const { return counts_; }
  /// Batches that pass once over the intervention pool (over the desirable pool if there is none), or over
  /// the segment pairs.
  int64_t batches_per_epoch() const;

 private:
  void draw_segment_pairs(const Dataset& dataset);
  size_t drawn_place(uint64_t draw, size_t n, const char* name) const;

  std::array<std::vector<StepIndex>, 3> pools_;
  std::vector<SegmentPair> segment_pairs_;  // of Draw::segment_pairs
  int64_t pairs_a_batch_ = 0;               // 0: steps one by one
  std::array<int64_t, 3> counts_{};
  int64_t batch_size_;
  uint64_t seed_;
};

}  // namespace apo::data
