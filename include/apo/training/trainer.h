// The one training loop: SFT, APO and KTO differ only in the objective that is passed in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <map>
#include <string>

#include "apo/base/error.h"
#include "apo/training/options.h"

namespace apo::distributed {
class Group;
}

namespace apo::training {

/// What to do with a run directory that is already used.
enum class ExistingRun { refuse, resume, overwrite };

struct TrainHooks {
  /// Called every `train.eval_every` steps and at the end with the policy in evaluation mode; what it returns
  /// is written to metrics.jsonl as "eval/<name>".
  std::function<std::map<std::string, double>(models::Policy&, int64_t step)> evaluate;
  /// Called before the first step and before the run's files are written, to say whether `evaluate` can work
  /// at all: throws what the run is to end with.
  std::function<void(const models::Policy&)> try_evaluation;
  /// The whole resolved config as YAML (config.yaml of the run); empty: the training sections alone.
  std::string config_yaml;
  /// The processes that train this run together, each of which calls `train`: docs/distributed.md. Null: this
  /// one alone.
  distributed::Group* group = nullptr;
  /// After three steps so many are recorded: run.dir/profile.md says where their time went,
  /// run.dir/profile.trace.json is what Chrome's about:tracing and Perfetto open. 0: none. Of several ranks
  /// the first one records.
  int64_t profile_steps = 0;
};

struct TrainResult {
  int64_t steps = 0;                      ///< optimizer steps done in total
  std::filesystem::path checkpoint;       ///< the last whole checkpoint, run.dir/checkpoints/step-N
  std::map<std::string, double> metrics;  ///< those of the last step
  double seconds = 0;                     ///< of this process
  std::filesystem::path profile = {};  ///< the table of TrainHooks::profile_steps; empty: none was asked for
};

/// train.guard is stop and a sign of forgetting was seen: a checkpoint was saved, and the message names the
/// last whole one from before that (exit code 4).
struct Stopped : RunError {
  using RunError::RunError;
};

/// Trains. Of several ranks the first one writes, and evaluates. Writes run.dir config.yaml, metrics.jsonl,
/// samples.jsonl, tensorboard/, checkpoints/.
///
/// Resuming gives the same numbers as never having stopped: bit-equal on the CPU.
/// Errors  ConfigError: run directory used and `existing` is refuse; resume with other options (names the
///         keys); empty pool. DataError: data or checkpoint. RunError: run directory in use or not writable;
///         non-finite loss or gradient (the last good checkpoint is kept, the step and the samples are
///         named). Stopped: train.guard, after saving; resuming goes on all the same. Interrupted:
///         SIGINT/SIGTERM, after saving. On several ranks: an error of one ends all of them with its message
///         and exit code; ConfigError: ranks with other options, or more ranks than samples; DataError: ranks
///         with other data or weights; RunError: a rank that is gone (Group).
TrainResult train(const TrainingOptions& options, ExistingRun existing = ExistingRun::refuse,
                  const TrainHooks& hooks = {});

/// Validates config and data without training and writes what it found to `out`: pools, labels by reason,
/// parameters (all, trained), how much undesirable samples weigh, memory estimate by part (weights,
/// reference, gradients, optimizer, activations), steps and epochs. Touches no run directory.
void dry_run(const TrainingOptions& options, std::ostream& out);

/// learning_rate(step), step counted from 0.
double learning_rate(const OptimizerOptions& optimizer, const ScheduleOptions& schedule, int64_t step,
                     int64_t total_steps);

}  // namespace apo::training
