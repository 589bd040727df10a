// What training and its dry run have in common: data, policy and durations made from the options.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apo/data/dataset.h"
#include "apo/data/sampler.h"
#include "apo/models/policy.h"
#include "apo/training/options.h"

namespace apo::training {

/// Updates of a whole run: train.max_steps, or else train.epochs.
int64_t total_steps(const TrainOptions& train, const data::PoolSampler& sampler);

/// How many actions the policy's samples have, and how they end.
void set_chunks(data::Dataset& dataset, const models::Policy& policy);

/// Draws the batches of the run: steps, or whole segment pairs for tpo. ConfigError or DataError where the
/// data has nothing for an objective that compares pairs.
data::PoolSampler make_sampler(const TrainingOptions& options, const data::Dataset& dataset);

/// The recordings, grippers coded as the policy's, compared with the checkpoint that is refined: warnings are
/// told. DataError with what does not suit, unless data.checks is warn.
/// `resumed`: a run's own checkpoint, whose policy is the one that goes on; it was compared when the run
/// began.
std::unique_ptr<data::Dataset> open_data(const TrainingOptions& options, const std::string& resumed = "");

/// A hash of everything that decides which samples a batch holds: steps, labels, actions.
std::string fingerprint(const data::Dataset& dataset);

/// The policy that the run begins with. ConfigError where its actions have another size than the data's.
std::unique_ptr<models::Policy> starting_policy(const TrainingOptions& options, const data::Dataset& dataset,
                                                at::Device device);

/// Whether an adapter is active, which then is what trains.
bool trains_adapter(models::Policy& policy);

/// Numbers of elements of all and of the trained parameters.
struct ParameterCounts {
  int64_t all = 0, trained = 0;
};
ParameterCounts count_parameters(const models::Policy& policy);

/// Threads, float32 arithmetic and determinism of the tensor library while it lives. Deterministic kernels
/// are chosen where there are any, but for the backward pass of fused attention on CUDA, whose deterministic
/// kind LibTorch takes only where everything without one is an error; a warning names it and the others.
class LibrarySettings {
 public:
  explicit LibrarySettings(const RunOptions& options);
  ~LibrarySettings();
  LibrarySettings(const LibrarySettings&) = delete;
  LibrarySettings& operator=(const LibrarySettings&) = delete;

 private:
  int threads_;
  bool deterministic_, warn_only_, fill_, tf32_convolutions_, tf32_products_;
};

}  // namespace apo::training
