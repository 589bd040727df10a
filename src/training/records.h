// What a run leaves behind: its labels, one line of metrics.jsonl a step, one line of samples.jsonl a sample.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apo/data/dataset.h"
#include "training/batch_outcome.h"

namespace apo::training {

/// What the loop knows about a step beside the batch's outcome.
struct StepFacts {
  int64_t step = 0;          ///< updates done, this one included: 1, 2, ...
  double epoch = 0;          ///< passes over the intervention (or desirable) pool so far
  double grad_norm = 0;      ///< before clipping
  double learning_rate = 0;  ///< of this update
  double step_seconds = 0;   ///< of the whole step, waiting for data included
  double data_seconds = 0;   ///< waiting for data
  int64_t memory_bytes = 0;
};

/// Names and values in the order in which they are written; NaN where a group is absent from the batch or the
/// objective has no such thing: step, then those of apo/base/metric_list.h.
using Metrics = std::vector<std::pair<std::string, double>>;
Metrics step_metrics(const StepFacts& facts, const std::vector<data::Sample>& samples,
                     const BatchOutcome& outcome);

/// What was clipped, clamped and left over in some steps, for the log at their end.
class Tally {
 public:
  void add(const BatchOutcome& outcome);
  /// `numbers`: recorded action numbers of one batch.
  void tell(int64_t numbers) const;

 private:
  int64_t steps_ = 0, clipped_actions_ = 0, cut_answers_ = 0, z0_clamped_ = 0, unpaired_ = 0;
};

/// "loss 0.4312" of the metrics by these names, absent ones left out.
std::string summary(const Metrics& metrics, std::initializer_list<std::string_view> names);
/// The samples whose own log-probs are not finite (z0 carries them into the others' losses), or all if there
/// are none, at most eight by name: "Samples with such numbers (2):" and a line each.
std::string samples_not_finite(const data::Dataset& dataset, const std::vector<data::Sample>& samples,
                               const BatchOutcome& outcome);

/// One JSON object; whole numbers without a fraction, NaN as null.
std::string metrics_line(const Metrics& metrics);
/// "eval/<name>" with values appended to the metrics of a step.
void append_evaluation(Metrics& metrics, const std::map<std::string, double>& evaluation);

/// One line a sample: step, file, episode, timestep, source, desirable, log_prob, reference_log_prob,
/// token_log_probs, reference_token_log_probs, reward, action_l1, weight, lambda, loss (= lambda ·
/// unweighted_loss, before reduction), unweighted_loss (1 − v; sft: mean cross-entropy). Token lists hold the
/// tokens that count.
std::vector<std::string> sample_lines(int64_t step, const data::Dataset& dataset,
                                      const std::vector<data::Sample>& samples, const BatchOutcome& outcome);

/// Writes run_directory/labels.json: files, episodes, recorded steps by label and reason, the pools' sizes,
/// and how many of each pool are in a batch (desirable, intervention, undesirable). RunError naming the file.
void write_label_counts(const std::filesystem::path& run_directory, const data::Dataset& dataset,
                        const std::array<int64_t, 3>& batch_counts);

/// "file episode timestep T" of one sample, for messages.
std::string where(const data::Dataset& dataset, const data::StepIndex& index);

/// Memory that the process (CPU) or its tensors (CUDA) hold now.
int64_t memory_bytes(at::Device device);

}  // namespace apo::training
