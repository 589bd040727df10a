// A policy's opinion of recorded steps, one JSON line each.
#include <torch/types.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "apo/base/atomic_file.h"
#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/base/output.h"
#include "apo/data/chunks.h"
#include "apo/data/trajectory.h"
#include "apo/deploy/evaluator.h"
#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"

namespace apo::deploy {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

// Every step of the files at `path`, whatever the training filters would say.
data::DataOptions all_steps_of(const std::string& path, const data::DataOptions& data) {
  data::SourceOptions source;
  if (!data.interactions.empty())
    source = data.interactions.front();
  else if (!data.expert.empty())
    source = data.expert.front();
  source.path = path;
  source.limit = 0;
  data::DataOptions all = data;
  all.expert = {source};
  all.interactions.clear();
  all.filter.max_abs_action = std::numeric_limits<double>::infinity();
  all.filter.min_motion = 0;
  all.labels.failed_demonstrations = data::FailedDemonstrations::keep;
  all.labels.chunk_overlap = data::ChunkOverlap::keep;
  return all;
}

struct ScoredBatch {
  at::Tensor target, predicted, mask;    ///< [B, T]
  at::Tensor token_log_probs, log_prob;  ///< [B, T] and [B]
  at::Tensor action_l1;                  ///< [B]
  std::vector<ActionChunk> predicted_actions;
  at::Tensor malformed;                     ///< [B]; undefined: none is
  std::optional<models::Decision> decided;  ///< without being told the answer
  std::optional<int64_t> padding;           ///< behind shorter answers
  int64_t horizon = 1;
};

ScoredBatch score_batch(models::Policy& policy, const std::vector<data::Sample>& samples, bool decode) {
  const at::NoGradGuard no_gradient;
  std::vector<Observation> observations;
  std::vector<ActionChunk> actions;
  for (const data::Sample& sample : samples) {
    observations.push_back(sample.observation);
    actions.push_back(sample.actions);
  }
  const models::PolicyInput input = policy.encode(observations);
  const models::ActionTokens tokens = policy.tokenize(actions, &input);
  const models::Score score = policy.score(input, tokens);
  objective::Batch asked{.tokens = tokens.ids, .mask = tokens.mask};
  if (const auto bins = policy.codec().bins()) {
    asked.first_action_token = bins->first;
    asked.last_action_token = bins->last;
  }
  objective::ObjectiveOptions plain;
  plain.type = objective::ObjectiveType::sft;
  const objective::TokenScores scores =
      objective::score(asked, plain, score, {}, {.statistics = false, .greedy = true}).scores;
  ScoredBatch batch;
  batch.predicted = models::greedy_action_tokens(policy, scores.greedy, tokens);
  batch.action_l1 = models::action_l1(policy, batch.predicted, tokens).to(at::kDouble).cpu();
  if (tokens.end_token.defined())
    batch.predicted = at::where(tokens.end_token, objective::greedy_tokens(score.logits), batch.predicted);
  batch.token_log_probs = scores.policy;
  batch.log_prob = batch.token_log_probs.to(at::kDouble).sum(1).cpu();
  const models::Decision predicted = policy.to_actions(batch.predicted, &input);
  batch.predicted_actions = predicted.actions;
  batch.malformed = predicted.malformed;
  batch.token_log_probs = batch.token_log_probs.to(at::kDouble).cpu();
  batch.target = tokens.ids.cpu() + policy.first_id();
  batch.horizon = policy.horizon();
  if (const auto padding = policy.codec().padding()) batch.padding = *padding + policy.first_id();
  batch.predicted = batch.predicted.cpu() + policy.first_id();
  batch.mask = tokens.mask.cpu();
  if (decode) {
    batch.decided = policy.act(input);
    batch.decided->ids = batch.decided->ids.cpu() + policy.first_id();
  }
  return batch;
}

json line_of(const data::Dataset& dataset, const data::Sample& sample, const ScoredBatch& batch,
             int64_t row) {
  const auto target = batch.target.accessor<int64_t, 2>(), predicted = batch.predicted.accessor<int64_t, 2>();
  const auto log_probs = batch.token_log_probs.accessor<double, 2>();
  const auto mask = batch.mask.accessor<bool, 2>();
  json line = {{"file", dataset.file_path(sample.index.file).string()},
               {"episode", dataset.episode_name(sample.index.file, sample.index.episode)},
               {"timestep", sample.index.timestep},
               {"log_prob", batch.log_prob.accessor<double, 1>()[row]}};
  for (const char* list : {"token_log_probs", "target_tokens", "predicted_tokens"})
    line[list] = json::array();
  for (int64_t t = 0; t < target.size(1); ++t) {
    if (!mask[row][t]) continue;
    line["token_log_probs"].push_back(log_probs[row][t]);
    line["target_tokens"].push_back(target[row][t]);
    line["predicted_tokens"].push_back(predicted[row][t]);
  }
  // a chunk is a list of actions, the only one of a policy without chunks stands for itself
  const auto put = [&line](const char* name, const ActionChunk& actions, int64_t horizon) {
    if (horizon > 1)
      line[name] = actions;
    else
      line[name] = actions.empty() ? Action() : actions.front();
  };
  ActionChunk decided = batch.predicted_actions[static_cast<size_t>(row)];
  decided.resize(std::min(decided.size(), sample.actions.size()));  // beyond are the recorded ones
  put("predicted_action", decided, batch.horizon);
  put("action", sample.actions, batch.horizon);
  line["action_l1"] = batch.action_l1.accessor<double, 1>()[row];
  if (batch.malformed.defined()) line["malformed"] = batch.malformed[row].item<bool>();
  if (!batch.decided) return line;
  const at::Tensor ids = batch.decided->ids[row].contiguous();
  std::vector<int64_t> decoded(ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel());
  while (!decoded.empty() && decoded.back() == batch.padding) decoded.pop_back();
  line["decoded_tokens"] = decoded;
  put("decoded_action", batch.decided->actions[static_cast<size_t>(row)], batch.horizon);
  if (batch.decided->malformed.defined())
    line["decoded_malformed"] = batch.decided->malformed[row].item<bool>();
  return line;
}

}  // namespace

int64_t score_dataset(models::Policy& policy, const std::string& path, const data::DataOptions& data,
                      int64_t batch_size, const fs::path& output, bool decode) {
  APO_CHECK(ConfigError, batch_size >= 1, "scoring: expected a batch size of at least 1, found ", batch_size);
  const OutputKind scores = json_lines("the scores of an earlier run", "log_prob");
  check_output("output", output, scores);
  data::DataOptions options = all_steps_of(path, data);
  options.policy_gripper = policy.gripper();
  data::Dataset dataset(options);
  dataset.set_horizon(policy.horizon(),
                      policy.codec().codes_whole_chunks() ? data::ChunkRule::whole : data::ChunkRule::cut);
  APO_CHECK(DataError, dataset.num_episodes() > 0, path, ": expected at least one episode, found none");
  APO_CHECK(DataError, dataset.action_size() == policy.action_size(), path, ": expected actions of ",
            policy.action_size(), " numbers as the policy has, found ", dataset.action_size());
  policy.set_training(false);
  const std::vector<data::StepIndex> steps = dataset.kept_steps();
  AtomicFile file(output, scores.is_this);
  int64_t malformed = 0;
  Progress progress("score", std::ssize(steps));
  for (int64_t begin = 0; begin < std::ssize(steps); begin += batch_size) {
    if (interrupted()) throw Interrupted(concat("interrupted after ", begin, " of ", steps.size(), " steps"));
    std::vector<data::Sample> samples;
    const int64_t end = std::min(begin + batch_size, std::ssize(steps));
    for (int64_t i = begin; i < end; ++i) {
      const data::StepIndex& step = steps[static_cast<size_t>(i)];
      samples.push_back(dataset.sample(step));
      const data::EpisodeRecord& record = dataset.record(step.file, step.episode);
      try {
        policy.prepare(samples.back().observation);
      } catch (const DataError& error) {
        throw DataError(concat(dataset.file_path(step.file).string(), ": ", record.name, " timestep ",
                               step.timestep, ": ", error.what(), data::unused_observations(record)));
      }
      if (!policy.codec().codes_whole_chunks())
        samples.back().actions = data::recorded_chunk_from(record, step.timestep, policy.horizon());
    }
    const ScoredBatch batch = score_batch(policy, samples, decode);
    if (batch.malformed.defined()) malformed += batch.malformed.sum().item<int64_t>();
    for (int64_t row = 0; row < std::ssize(samples); ++row)
      file.write(line_of(dataset, samples[static_cast<size_t>(row)], batch, row)
                     .dump(-1, ' ', false, json::error_handler_t::replace) +
                 "\n");
    progress.update(end);
  }
  file.commit();
  if (malformed > 0)
    log_warn(path, ": ", malformed, " of ", steps.size(),
             " predicted answers are no whole code; missing coefficients count as 0");
  return std::ssize(steps);
}

}  // namespace apo::deploy
