// Which steps form batch number N: a pure function of (seed, N), so that resuming needs no state but N.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "apo/data/dataset.h"

namespace apo::data {

/// Draws batches from three pools at fixed shares; each pool is gone through in a new random order every time it is
/// used up (without replacement within a pass).
///
/// The slots of a batch are shuffled, so that neighbours (the mismatched pairs of z0) mix pools and tasks.
/// Source  released dataset/sampler.py (0.5 / 0.25 / 0.25; an epoch is one pass over the intervention pool).
/// Differs there the order inside a batch is fixed (pools one after the other).
class PoolSampler {
 public:
  /// ConfigError if a pool with a positive share is empty (naming the pool and the option), if a positive share
  /// rounds to no sample at this batch size, or the shares do not sum to something positive (they are normalised).
  PoolSampler(const Dataset& dataset, const PoolOptions& pools, int64_t batch_size, uint64_t seed);

  /// The `batch_size` steps of batch `position` >= 0.
  std::vector<StepIndex> batch(int64_t position) const;
  /// Samples a batch of each pool (desirable, intervention, undesirable).
  std::array<int64_t, 3> counts() const { return counts_; }
  /// Batches that pass once over the intervention pool (over the desirable pool if there is none).
  int64_t batches_per_epoch() const;

 private:
  std::array<std::vector<StepIndex>, 3> pools_;
  std::array<int64_t, 3> counts_{};
  int64_t batch_size_;
  uint64_t seed_;
};

}  // namespace apo::data
