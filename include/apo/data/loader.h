// Batches read, prepared and augmented ahead of the training loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "apo/data/dataset.h"
#include "apo/data/sampler.h"

namespace apo::data {

/// One batch, its slots in the sampler's order.
struct Batch {
  int64_t position = 0;
  std::vector<Sample> samples;
  double data_seconds = 0;  ///< how long the caller waited for it
};

/// Produces batches position, position + 1, ... Threads only change when, never what: augmentation depends on
/// (seed, position, slot) alone, or with data.augmentation.draws on the sample and which of its draws it is.
class Loader {
 public:
  /// `prepare` brings one observation to the policy's input size (models::Policy::prepare); it runs before
  /// augmentation, in the workers. Augmentation follows `options.augmentation`. `wanted`: which samples of a
  /// batch get their observation; null: all.
  using Wanted = std::function<std::vector<bool>(const std::vector<Sample>&)>;
  Loader(const Dataset& dataset, const PoolSampler& sampler, const DataOptions& options, uint64_t seed,
         int64_t first_position, std::function<void(Observation&)> prepare, Wanted wanted = nullptr);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next batch. What a worker threw is thrown here.
  Batch next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace apo::data
