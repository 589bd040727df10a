#include "training/records.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <torch/types.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apo/base/error.h"
#include "apo/base/log.h"
#include "results/training_record.h"

namespace apo::training {
namespace {

using nlohmann::ordered_json;

constexpr double kManyClipped = 0.1;

ordered_json json_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

// Mean of a [B] tensor over the samples of one group; NaN for an empty group.
double group_mean(const at::Tensor& values, const std::vector<data::Sample>& samples, bool desirable) {
  const auto value = values.accessor<double, 1>();
  double sum = 0;
  int64_t count = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].desirable != desirable) continue;
    sum += value[static_cast<int64_t>(i)];
    ++count;
  }
  return count > 0 ? sum / static_cast<double>(count) : kAbsent;
}

// Mean over the samples or, where the objective compares pairs, over the pairs.
double unweighted_loss(const BatchOutcome& outcome) {
  if (std::isnan(outcome.num_pairs)) return outcome.sample_loss.mean().item<double>();
  return outcome.num_pairs > 0 ? (outcome.weight * outcome.sample_loss).nansum().item<double>() : kAbsent;
}

ordered_json unmasked(const at::Tensor& values, const at::Tensor& mask, int64_t row) {
  if (!values.defined()) return nullptr;
  const auto value = values.accessor<double, 2>();
  const auto counts = mask.accessor<bool, 2>();
  ordered_json list = ordered_json::array();
  for (int64_t t = 0; t < values.size(1); ++t)
    if (counts[row][t]) list.push_back(value[row][t]);
  return list;
}

}  // namespace

Metrics step_metrics(const StepFacts& facts, const std::vector<data::Sample>& samples,
                     const BatchOutcome& outcome) {
  int64_t num_desirable = 0;
  for (const data::Sample& sample : samples) num_desirable += sample.desirable;
  const auto size = static_cast<int64_t>(samples.size());
  const double reward_desirable = group_mean(outcome.reward, samples, true);
  const double reward_undesirable = group_mean(outcome.reward, samples, false);
  return {{"step", static_cast<double>(facts.step)},
          {"epoch", facts.epoch},
          {"loss", outcome.loss},
          {"unweighted_loss", unweighted_loss(outcome)},
          {"z0", outcome.z0},
          {"reward_desirable", reward_desirable},
          {"reward_undesirable", reward_undesirable},
          {"reward_margin", reward_desirable - reward_undesirable},
          {"action_l1_desirable", group_mean(outcome.action_l1, samples, true)},
          {"action_l1_undesirable", group_mean(outcome.action_l1, samples, false)},
          {"lambda_desirable", outcome.lambda_desirable},
          {"lambda_undesirable", outcome.lambda_undesirable},
          {"grad_norm", facts.grad_norm},
          {"learning_rate", facts.learning_rate},
          {"num_desirable", static_cast<double>(num_desirable)},
          {"num_undesirable", static_cast<double>(size - num_desirable)},
          {"samples_per_second", static_cast<double>(size) / facts.step_seconds},
          {"step_seconds", facts.step_seconds},
          {"data_seconds", facts.data_seconds},
          {"memory_bytes", static_cast<double>(facts.memory_bytes)},
          {"z0_unclamped", outcome.z0_unclamped},
          {"z0_standard_error", outcome.z0_standard_error},
          {"z0_clamped", outcome.z0_clamped},
          {"sft_loss", outcome.sft_loss},
          {"reference_kl", outcome.reference_kl},
          {"num_clipped_actions", static_cast<double>(outcome.num_clipped_actions)},
          {"num_clamped_tokens", static_cast<double>(outcome.num_clamped_tokens)},
          {"num_pairs", outcome.num_pairs},
          {"pair_accuracy", outcome.pair_accuracy},
          {"num_unpaired", outcome.num_unpaired}};
}

void Tally::add(const BatchOutcome& outcome) {
  ++steps_;
  clipped_actions_ += outcome.num_clipped_actions;
  cut_answers_ += outcome.num_cut_answers;
  z0_clamped_ += outcome.z0_clamped == 1;
  if (!std::isnan(outcome.num_unpaired)) unpaired_ += static_cast<int64_t>(outcome.num_unpaired);
}

// Normalisation by quantiles clips a few actions on purpose; many mean that policy and data do not belong
// together.
void Tally::tell(int64_t numbers) const {
  if (cut_answers_ > 0)
    log_warn("recorded answers: ", cut_answers_,
             " were longer than the policy reads behind its prompt, and were cut");
  if (clipped_actions_ > 0) {
    const double share = static_cast<double>(clipped_actions_) / static_cast<double>(steps_ * numbers);
    log_line(share > kManyClipped ? LogLevel::warn : LogLevel::info,
             concat(clipped_actions_, " recorded action numbers (", 100 * share,
                    " %) were beyond the range of the policy's tokens and clipped to it"));
  }
  if (unpaired_ > 0)
    log_info(unpaired_, " samples of ", steps_,
             " steps were corrections without a recorded counterpart; they are in no pair");
  if (z0_clamped_ > 0) log_info("z0 was clamped in ", z0_clamped_, " of ", steps_, " steps");
}

std::string summary(const Metrics& metrics, std::initializer_list<std::string_view> names) {
  std::ostringstream out;
  out.precision(4);
  for (const std::string_view name : names)
    for (const auto& [key, value] : metrics)
      if (key == name && !std::isnan(value)) out << (out.tellp() > 0 ? "  " : "") << key << ' ' << value;
  return out.str();
}

std::string samples_not_finite(const data::Dataset& dataset, const std::vector<data::Sample>& samples,
                               const BatchOutcome& outcome) {
  at::Tensor own = outcome.log_prob;
  if (outcome.reference_token_log_probs.defined()) own = own + outcome.reference_log_prob;
  constexpr int64_t kMostNamed = 8;
  std::string named, all;
  int64_t num_named = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const std::string one = where(dataset, samples[i].index);
    if (static_cast<int64_t>(i) < kMostNamed) append_item(all, "; ", one);
    if (!std::isfinite(own[static_cast<int64_t>(i)].item<double>()) && num_named++ < kMostNamed)
      append_item(named, "; ", one);
  }
  const int64_t count = num_named > 0 ? num_named : std::ssize(samples);
  return concat(num_named > 0 ? "Samples with such numbers" : "Samples of the batch", " (", count,
                "): ", num_named > 0 ? named : all, count > kMostNamed ? "; ..." : "");
}

std::string metrics_line(const Metrics& metrics) {
  ordered_json json;
  for (const auto& [name, value] : metrics) json[name] = json_number(value);
  return json.dump();
}

void append_evaluation(Metrics& metrics, const std::map<std::string, double>& evaluation) {
  for (const auto& [name, value] : evaluation) metrics.emplace_back("eval/" + name, value);
}

std::vector<std::string> sample_lines(int64_t step, const data::Dataset& dataset,
                                      const std::vector<data::Sample>& samples, const BatchOutcome& outcome) {
  std::vector<std::string> lines;
  const auto number = [](const at::Tensor& values, int64_t row) -> ordered_json {
    const double value = values.accessor<double, 1>()[row];
    return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
  };
  for (size_t i = 0; i < samples.size(); ++i) {
    const data::Sample& sample = samples[i];
    const auto row = static_cast<int64_t>(i);
    const ordered_json json = {
        {"step", step},
        {"file", dataset.file_path(sample.index.file).string()},
        {"episode", dataset.episode_name(sample.index.file, sample.index.episode)},
        {"timestep", sample.index.timestep},
        {"source", to_string(sample.source)},
        {"desirable", sample.desirable},
        {"log_prob", number(outcome.log_prob, row)},
        {"reference_log_prob", number(outcome.reference_log_prob, row)},
        {"token_log_probs", unmasked(outcome.token_log_probs, outcome.mask, row)},
        {"reference_token_log_probs", unmasked(outcome.reference_token_log_probs, outcome.mask, row)},
        {"reward", number(outcome.reward, row)},
        {"action_l1", number(outcome.action_l1, row)},
        {"weight", number(outcome.weight, row)},
        {"lambda", number(outcome.lambda, row)},
        {"loss", number(outcome.lambda * outcome.sample_loss, row)},
        {"unweighted_loss", number(outcome.sample_loss, row)}};
    lines.push_back(json.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
  }
  return lines;
}

std::string where(const data::Dataset& dataset, const data::StepIndex& index) {
  return concat(dataset.file_path(index.file).string(), " ", dataset.episode_name(index.file, index.episode),
                " timestep ", index.timestep);
}

int64_t memory_bytes(at::Device device) {
  if (!device.is_cpu()) {
    const auto stats =
        c10::getDeviceAllocator(device.type())->getDeviceStats(device.has_index() ? device.index() : 0);
    return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].current;
  }
  // second number of statm: resident pages
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

void write_label_counts(const std::filesystem::path& run_directory, const data::Dataset& dataset,
                        const std::array<int64_t, 3>& batch_counts) {
  const auto size = [&](data::Pool pool) { return static_cast<int64_t>(dataset.pool(pool).size()); };
  results::write_labels(run_directory, {.files = dataset.num_files(),
                                        .episodes = dataset.num_episodes(),
                                        .labels = dataset.counts(),
                                        .pools = {{"desirable", size(data::Pool::desirable)},
                                                  {"intervention", size(data::Pool::intervention)},
                                                  {"undesirable", size(data::Pool::undesirable)}},
                                        .batch = {{"desirable", batch_counts[0]},
                                                  {"intervention", batch_counts[1]},
                                                  {"undesirable", batch_counts[2]}}});
}

}  // namespace apo::training
