// reference.mode cached: what the objective reads of the reference, batch by batch, in place of a second
// policy.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "apo/objective/objective.h"

namespace apo::training {

/// The reference's log-probabilities of every batch of a run, computed before the first update, when policy
/// and reference are one. Batches and their augmentation depend on (seed, position) alone, so these are the
/// numbers that a second policy would give: two float32 numbers an action token.
class CachedReference {
 public:
  /// Of the batch after the last one added.
  void add(const objective::ReferenceScores& batch);
  /// On the device they are needed on. Bug for a position that is not there.
  objective::ReferenceScores batch(int64_t position, at::Device device) const;
  int64_t num_batches() const { return static_cast<int64_t>(batches_.size()); }

  /// RunError naming the file (disk full).
  void write(const std::filesystem::path& file) const;
  /// DataError naming the file and what is wrong.
  static CachedReference read(const std::filesystem::path& file);

 private:
  std::vector<objective::ReferenceScores> batches_;
};

}  // namespace apo::training
