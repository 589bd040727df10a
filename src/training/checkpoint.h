// checkpoints/step-N/ of a run: all that going on needs, written whole or not at all.
//
//   policy/                      Policy::save: what evaluation, collection and the next run load
//   training_state.safetensors   trained parameters (exactly as in memory), optimizer moments, random streams
//   reference.safetensors        the reference's own parameters, unless larger than
//                                kLargestStoredReferenceBytes
//   config.yaml                  the training sections that the run began with
//   state.json                   TrainingState, and the size and hash of every file beside it
//   DONE
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apo/models/policy.h"
#include "apo/training/options.h"
#include "training/heaviest.h"
#include "training/optimizer.h"

namespace apo::training {

/// A larger reference (a full copy of a large model) is not stored but rebuilt from the policy that the run
/// began with.
inline constexpr int64_t kLargestStoredReferenceBytes = int64_t{1} << 30;

struct TrainingState {
  int64_t step = 0;               ///< updates done; also the sampler's position and the schedule's step
  int64_t metrics_bytes = 0;      ///< of metrics.jsonl; what follows belongs to later steps
  int64_t samples_bytes = 0;      ///< of samples.jsonl
  std::string data_fingerprint;   ///< of the pools that batches are drawn from
  std::string policy_checkpoint;  ///< directory that the starting policy came from; empty: fresh
  std::string policy_checkpoint_from_run;  ///< the same, as the way there from the run's directory; may be
                                           ///< absent
  /// of the starting policy; only where the reference is rebuilt from it
  std::string policy_hash;
  std::string frozen_hash;            ///< of what training leaves as it was; empty if nothing, or an older
                                      ///< checkpoint does not say
  std::string cached_reference_hash;  ///< of cached_reference.safetensors; empty without it
  bool reference_stored = false;
  std::string reference_id;               ///< of what reference.cache keeps; empty: nothing
  std::map<std::string, double> metrics;  ///< of the last step
  HeaviestSamples heaviest;               ///< absent from older checkpoints: then it begins anew
};

/// Bytes of the tensors.
int64_t size_bytes(const models::NamedTensors& tensors);

/// `run_directory`/checkpoints/step-N.
std::filesystem::path checkpoint_path(const std::filesystem::path& run_directory, int64_t step);

/// Writes `run_directory`/checkpoints/step-N and points checkpoints/latest at it. Returns its path.
/// `optimizer`: its state; `reference`: its parameters, written where `state.reference_stored` says so.
/// RunError naming the file (disk full, no permission); older checkpoints are untouched.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_directory, const TrainingState& state,
                                      const TrainingOptions& options, const models::Policy& policy,
                                      const models::NamedTensors& optimizer,
                                      const models::NamedTensors& reference);

/// Whole checkpoints, newest first.
std::vector<std::filesystem::path> whole_checkpoints(const std::filesystem::path& run_directory);
/// The whole checkpoint with the largest step, if there is any.
std::optional<std::filesystem::path> newest_checkpoint(const std::filesystem::path& run_directory);

/// DataError naming file and key.
TrainingState read_state(const std::filesystem::path& checkpoint);
/// Trained parameters, moments and random streams back to where they were.
void restore_training(const std::filesystem::path& checkpoint, Adam& optimizer, at::Device device);
void restore_reference(const std::filesystem::path& checkpoint, const models::NamedTensors& reference);

}  // namespace apo::training
