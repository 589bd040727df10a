// What a run writes and tells while it trains: the lines of each step, TensorBoard's events, its guard, and
// at the end the heaviest samples. Of several ranks the first one has it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apo/base/files.h"
#include "apo/data/dataset.h"
#include "apo/data/sampler.h"
#include "apo/training/options.h"
#include "training/checkpoint.h"
#include "training/event_file.h"
#include "training/guard.h"
#include "training/records.h"
#include "training/run_directory.h"

namespace apo::training {

class RunOutput {
 public:
  /// Begins the directory, or goes on where `state` was saved: later lines are cut. `config_yaml`: empty: the
  /// training sections alone. All but the options and the text are kept by reference.
  RunOutput(const TrainingOptions& options, const std::string& config_yaml, RunDirectory& directory,
            const data::Dataset& dataset, const data::PoolSampler& sampler, const models::Policy& policy,
            TrainingState& state, int64_t total_steps);

  /// The step that `state` is at. Returns what a guard that stops has to say (else empty).
  std::string add(const Metrics& metrics, const std::vector<data::Sample>& samples,
                  const BatchOutcome& outcome);
  /// The sizes of the files into the state, for a checkpoint.
  void note_sizes();
  /// For the report. The run is trained and saved whatever becomes of its pictures.
  void show_heaviest_samples();
  /// `numbers`: recorded action numbers of one batch.
  void tell_tally(int64_t numbers) const { tally_.tell(numbers); }

 private:
  const TrainingOptions& options_;
  RunDirectory& directory_;
  const data::Dataset& dataset_;
  TrainingState& state_;
  int64_t total_steps_;
  std::unique_ptr<LineWriter> metrics_file_, samples_file_;
  std::unique_ptr<EventFile> events_;
  std::optional<Guard> guard_;
  Tally tally_;  // since this process began
};

}  // namespace apo::training
