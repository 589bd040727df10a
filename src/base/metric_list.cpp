#include "apo/base/metric_list.h"

#include <algorithm>
#include <array>

#include "apo/base/error.h"

namespace apo {
namespace {

using enum AcrossRanks;

constexpr std::array<MetricInfo, 29> kMetrics{{
    {"epoch", "", "passes over the corrections (without any: over the desirable pool) so far", same, "", ""},
    {"loss", "", "what the update made smaller", same, "Loss", "loss"},
    {"unweighted_loss", "",
     "mean over the samples of 1 - v (sft: of their cross-entropies; dpo, tpo: of the pairs' losses)", same,
     "Loss without weights", "unweighted_loss"},
    {"z0", "nats", "the KL baseline that rewards are compared with, as used", same, "KL baseline z0",
     "as used"},
    {"reward_desirable", "nats", "mean log-ratio of policy and reference over the desirable samples", same,
     "Reward", "desirable"},
    {"reward_undesirable", "nats", "the same of the undesirable ones", same, "Reward", "undesirable"},
    {"reward_margin", "nats", "reward_desirable - reward_undesirable", same, "Reward margin",
     "reward_margin"},
    {"action_l1_desirable", "normalized units",
     "mean |predicted - recorded action| over the desirable samples", same, "Action error", "desirable"},
    {"action_l1_undesirable", "normalized units", "the same of the undesirable ones", same, "Action error",
     "undesirable"},
    {"lambda_desirable", "", "sum of the weights lambda of the desirable samples", same, "Sample weights λ",
     "desirable"},
    {"lambda_undesirable", "", "the same of the undesirable ones", same, "Sample weights λ", "undesirable"},
    {"grad_norm", "", "norm of the gradient before clipping", same, "Gradient norm", "grad_norm"},
    {"learning_rate", "", "of this update", same, "Learning rate", "learning_rate"},
    {"num_desirable", "samples", "desirable ones in the batch, corrections among them", same,
     "Samples in the batch", "desirable"},
    {"num_undesirable", "samples", "undesirable ones in the batch", same, "Samples in the batch",
     "undesirable"},
    {"samples_per_second", "1/s", "samples learned from in a second of the whole step", smallest,
     "Throughput", "samples_per_second"},
    {"step_seconds", "s", "of the whole step, waiting for data included", largest, "Time of a step",
     "whole step"},
    {"data_seconds", "s", "of waiting for data", largest, "Time of a step", "waiting for data"},
    {"memory_bytes", "bytes", "held by the process (CPU) or its tensors (GPU)", largest, "Memory",
     "memory_bytes"},
    {"z0_unclamped", "nats", "the batch's estimate of z0 before clamping", same, "KL baseline z0",
     "before clamping"},
    {"z0_standard_error", "nats", "of that estimate, from the spread between samples", same, "KL baseline z0",
     "standard error"},
    {"z0_clamped", "", "1 where the estimate lay outside the allowed range, else 0", same,
     "Clamped and clipped", "z0 clamped"},
    {"sft_loss", "nats a token", "mean cross-entropy over the tokens of the desirable samples", same,
     "Imitation", "sft_loss"},
    {"reference_kl", "nats a token", "mean KL(reference || policy) over the tokens of the held samples", same,
     "What is kept", "reference_kl"},
    {"num_clipped_actions", "", "recorded action numbers outside what the policy's tokens can express", same,
     "Clamped and clipped", "recorded action numbers clipped"},
    {"num_clamped_tokens", "tokens",
     "predicted ones that were no action tokens (compatibility: released-code)", same, "Clamped and clipped",
     "predicted tokens clamped"},
    {"num_pairs", "pairs", "of dpo and tpo in the batch", same, "Pairs in the batch", "pairs"},
    {"pair_accuracy", "", "share of the pairs whose preferred side has the larger reward", same,
     "Pairs told apart", "pair_accuracy"},
    {"num_unpaired", "samples", "corrections (tpo: and steps before a take-over) that are in no pair", same,
     "Pairs in the batch", "samples in no pair"},
}};

}  // namespace

std::string_view to_string(AcrossRanks how) {
  constexpr std::array<std::string_view, 3> kNames{"the same on all", "the largest", "the smallest"};
  return kNames.at(static_cast<size_t>(how));
}

std::span<const MetricInfo> metric_list() { return kMetrics; }

const MetricInfo* find_metric(std::string_view name) {
  const auto found = std::ranges::find(kMetrics, name, &MetricInfo::name);
  return found != kMetrics.end() ? &*found : nullptr;
}

std::string metric_table() {
  std::string table =
      "| name | unit | meaning | of several ranks | chart in the report |\n| --- | --- | --- | --- | --- |\n";
  for (const MetricInfo& metric : kMetrics) {
    std::string meaning;  // a bar would end the cell
    for (const char c : metric.meaning) {
      if (c == '|') meaning += '\\';
      meaning += c;
    }
    table += concat("| `", metric.name, "` | ", metric.unit, " | ", meaning, " | ",
                    to_string(metric.across_ranks), " | ", metric.panel, " |\n");
  }
  return table;
}

}  // namespace apo
