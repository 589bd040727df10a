// The samples that weighed most in a run, kept while it goes on and drawn when it ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "apo/data/dataset.h"
#include "training/batch_outcome.h"

namespace apo::training {

/// One sample of one batch, and how much it counted there.
struct WeighedSample {
  data::StepIndex index;
  ActionSource source = ActionSource::expert;
  bool desirable = true;
  int64_t step = 0;  ///< the update
  double lambda = 0, weight = 0, reward = kAbsent, action_l1 = 0;
  bool operator==(const WeighedSample&) const = default;
};

/// The heaviest samples of each group since the middle of the run (before it, since the start), so that what
/// the untrained policy found hard does not stand for the run.
///
/// Order    the largest λ first. Where λ is equal (uniform weights), as adaptive weights would have it: among
///          desirable samples the largest action error, among undesirable ones the smallest; then the earlier
///          update.
///          A recorded step is listed once, with its heaviest visit; samples that count nothing (λ = 0) are
///          not.
/// Cost     two comparisons a sample; at most 2 · kMost samples are kept.
class HeaviestSamples {
 public:
  static constexpr size_t kMost = 8;  ///< of each group

  /// Takes the samples of update `step` (1, 2, ..) out of `total_steps`.
  void add(int64_t step, int64_t total_steps, const std::vector<data::Sample>& samples,
           const BatchOutcome& outcome);

  /// The first update that counts.
  int64_t from_step() const { return from_step_; }
  /// Desirable ones first, each group from its heaviest on.
  const std::vector<WeighedSample>& samples() const { return samples_; }
  /// What an earlier process kept.
  void restore(int64_t from_step, std::vector<WeighedSample> samples);

 private:
  void add(const WeighedSample& sample);

  int64_t from_step_ = 1;
  std::vector<WeighedSample> samples_;
};

/// Writes run_directory/heaviest_samples.json and a picture of each (the first camera, framed in the color of
/// who acted, at most 192 pixels high) as run_directory/heaviest/GROUP-N.webp; what lay there is removed.
/// DataError or RunError naming the file.
void write_heaviest_samples(const std::filesystem::path& run_directory, const HeaviestSamples& heaviest,
                            int64_t last_step, const data::Dataset& dataset);

}  // namespace apo::training
