#include "apo/audit/fit_fast.h"

#include <torch/types.h>

#include <cmath>
#include <system_error>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/data/statistics.h"
#include "apo/tokenizers/fast.h"
#include "apo/tokenizers/normalizer.h"

namespace apo::audit {
namespace {

namespace fs = std::filesystem;

constexpr double kEpsilon = 1e-6;  // as openpi normalises

tokenizers::Normalizer normalizer_of(tokenizers::VectorStatistics statistics, bool z_score) {
  statistics.mask.assign(statistics.mask.size(), true);
  using tokenizers::Normalization;
  return {std::move(statistics),
          {.how = z_score ? Normalization::z_score : Normalization::quantiles,
           .epsilon = kEpsilon,
           .inverse_epsilon = kEpsilon,
           .clip = false,
           .to_float32 = false}};
}

std::vector<double> numbers_of(const ActionChunk& chunk, const tokenizers::Normalizer& normalizer) {
  std::vector<double> numbers;
  for (const Action& action : chunk) numbers.insert(numbers.end(), action.begin(), action.end());
  const at::Tensor normalized =
      normalizer.normalize(at::tensor(numbers, at::kDouble).view({std::ssize(chunk), normalizer.size()}));
  return {normalized.const_data_ptr<double>(), normalized.const_data_ptr<double>() + normalized.numel()};
}

}  // namespace

FitFastSummary fit_fast(const data::DataOptions& given, const FitFastOptions& options,
                        const fs::path& output) {
  APO_CHECK(ConfigError, options.horizon >= 1, "--horizon: expected at least 1, found ", options.horizon);
  std::error_code ignored;
  APO_CHECK(ConfigError, !fs::exists(output, ignored) || fs::is_empty(output, ignored),
            "--output: ", output.string(), " is not empty; expected a new directory");
  data::DataOptions data = given;
  data.labels.chunk_overlap = data::ChunkOverlap::keep;
  data::Dataset dataset(data);
  dataset.expect_enough_kept();
  dataset.set_horizon(options.horizon, data::ChunkRule::whole);
  std::vector<data::StepIndex> steps = dataset.kept_steps(/*expert_only=*/true);
  if (steps.empty()) steps = dataset.kept_steps();
  const tokenizers::Normalizer normalizer =
      normalizer_of(data::compute_statistics(dataset, steps).action, options.z_score);
  std::vector<std::vector<double>> chunks;
  for (const data::StepIndex& index : steps)
    chunks.push_back(numbers_of(dataset.sample_without_observation(index).actions, normalizer));
  const auto tokenizer = tokenizers::FastTokenizer::fit(chunks, options.horizon, dataset.action_size(),
                                                        options.vocabulary, options.scale);
  FitFastSummary summary{.num_chunks = std::ssize(chunks),
                         .horizon = options.horizon,
                         .action_size = dataset.action_size(),
                         .num_codes = tokenizer.size()};
  double codes = 0, error = 0;
  for (const std::vector<double>& chunk : chunks) {
    const auto encoded = tokenizer.encode(chunk, options.horizon);
    const auto decoded = tokenizer.decode(encoded.codes, options.horizon, dataset.action_size());
    codes += static_cast<double>(encoded.codes.size());
    for (size_t i = 0; i < chunk.size(); ++i) error += std::abs(decoded.actions[i] - chunk[i]);
  }
  const auto count = static_cast<double>(chunks.size());
  summary.mean_length = codes / count;
  summary.mean_error = error / (count * static_cast<double>(chunks.front().size()));
  write_directory_atomic(output, [&tokenizer](const fs::path& staging) { tokenizer.write(staging); });
  return summary;
}

std::string to_text(const FitFastSummary& s) {
  return concat("chunks  ", s.num_chunks, " of ", s.horizon, " actions of ", s.action_size,
                " numbers\ncodes   ", s.num_codes, " pieces; ", std::round(10 * s.mean_length) / 10,
                " for a chunk on average\nerror   ", std::round(1e5 * s.mean_error) / 1e5,
                " on average, of normalised actions\n");
}

}  // namespace apo::audit
