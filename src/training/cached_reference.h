// reference.mode cached: what the objective reads of the reference, batch by batch, in place of a second
// policy.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "training/reference_scorer.h"

namespace apo::training {

/// The reference's log-probabilities of every batch of a run, computed before the first update, when policy
/// and reference are one. Batches and their augmentation depend on (seed, position) alone, so these are the
/// numbers that a second policy would give: two float32 numbers an action token.
class CachedReference : public ReferenceScorer {
 public:
  /// Its name in run.dir.
  static constexpr const char* kFile = "cached_reference.safetensors";

  /// Bug for a position that is not there.
  objective::ReferenceScores score(const Question& question) override;
  /// A new run computes it and writes it: Interrupted by a signal, and then nothing is written; RunError as
  /// `write`. A resumed one reads it: DataError naming the file where it is damaged or too short.
  void look_ahead(const RunAhead& run) override;

  /// Of the batch after the last one added: all its rows, of all ranks.
  void add(const objective::ReferenceScores& batch);
  int64_t num_batches() const { return static_cast<int64_t>(batches_.size()); }

  /// RunError naming the file (disk full).
  void write(const std::filesystem::path& file) const;
  /// DataError naming the file and what is wrong.
  static CachedReference read(const std::filesystem::path& file);

 private:
  std::vector<objective::ReferenceScores> batches_;
};

}  // namespace apo::training
