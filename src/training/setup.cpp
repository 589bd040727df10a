#include "training/setup.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <utility>

#include "apo/audit/validate.h"
#include "apo/base/error.h"
#include "apo/base/log.h"
#include "apo/data/sampler.h"
#include "apo/models/description.h"
#include "apo/models/lora.h"
#include "apo/models/registry.h"
#include "apo/objective/options.h"
#include "apo/training/policy_data.h"

namespace apo::training {
namespace {

// FNV-1a over 8-byte words and bytes. Checkpoints hold it, so it stays as it is.
class Hash {
 public:
  void add(std::span<const float> values) {
    add_number(static_cast<int64_t>(values.size()));
    for (const std::byte byte : std::as_bytes(values)) mix(static_cast<uint64_t>(byte));
  }
  void add(const std::string& text) {
    add_number(static_cast<int64_t>(text.size()));
    for (const char c : text) mix(static_cast<unsigned char>(c));
  }
  void add_number(int64_t value) { mix(static_cast<uint64_t>(value)); }
  std::string text() const {
    std::ostringstream out;
    out << std::hex << hash_;
    return out.str();
  }

 private:
  void mix(uint64_t word) { hash_ = (hash_ ^ word) * 0x100000001b3ULL; }
  uint64_t hash_ = 0xcbf29ce484222325ULL;
};

// Asked so rather than by allowTF32CuDNN and its kin, which throw where a program has set only some of these.
bool rounds_to_tf32(at::Float32Op op) {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, op) == at::Float32Precision::TF32;
}

}  // namespace

int64_t total_steps(const TrainOptions& train, const data::PoolSampler& sampler) {
  if (train.max_steps > 0) return train.max_steps;
  const double steps = std::ceil(train.epochs * static_cast<double>(sampler.batches_per_epoch()) - 1e-9);
  APO_CHECK(ConfigError, steps < 1e15, "train.epochs: ", train.epochs, " of ", sampler.batches_per_epoch(),
            " steps each never end");
  return std::max<int64_t>(1, static_cast<int64_t>(steps));
}

// dpo has nothing to learn from where nobody recorded what the policy wanted while the human acted.
void check_action_pairs(const TrainingOptions& options, const data::Dataset& dataset) {
  const auto& corrections = dataset.pool(data::Pool::intervention);
  const bool any = std::any_of(corrections.begin(), corrections.end(), [&](const data::StepIndex& index) {
    return !dataset.sample_without_observation(index).policy_actions.empty();
  });
  APO_CHECK(DataError, any || corrections.empty(),
            "data.interactions: objective.type dpo compares the human's action "
            "with the policy's at the same step; expected policy_action beside the human's actions (",
            dataset.file_path(corrections.front().file).string(),
            "), found none; record with deploy.collect.record_policy_action, or take objective.type tpo");
}

void set_chunks(data::Dataset& dataset, const models::Policy& policy) {
  dataset.set_horizon(policy.horizon(),
                      policy.codec().codes_whole_chunks() ? data::ChunkRule::whole : data::ChunkRule::cut);
}

data::PoolSampler make_sampler(const TrainingOptions& options, const data::Dataset& dataset) {
  dataset.expect_enough_kept();
  if (options.objective.type == objective::ObjectiveType::dpo) check_action_pairs(options, dataset);
  const bool segments = options.objective.type == objective::ObjectiveType::tpo;
  return {dataset, options.data.pools, options.train.batch_size, static_cast<uint64_t>(options.run.seed),
          segments ? data::Draw::segment_pairs : data::Draw::steps};
}

std::unique_ptr<data::Dataset> open_data(const TrainingOptions& options, const std::string& resumed) {
  models::PolicyOptions policy = options.policy;
  if (!resumed.empty()) {
    policy.checkpoint = resumed;
    policy.adapter.clear();
    policy.statistics.clear();
  }
  const audit::PolicyInputs inputs = policy_inputs(policy);
  data::DataOptions data = options.data;
  data.policy_gripper = inputs.gripper;
  data.policy_cameras = inputs.cameras;
  auto dataset = std::make_unique<data::Dataset>(data);
  if (!resumed.empty()) return dataset;
  const std::string& what = policy.checkpoint.empty() ? policy.statistics : policy.checkpoint;
  std::string wrong;
  for (const audit::Finding& finding : audit::compare_with_policy(*dataset, inputs)) {
    if (finding.severity == audit::Severity::error && data.checks == data::DataChecks::error)
      append_item(wrong, "; ", finding.message);
    else if (finding.severity != audit::Severity::note)
      log_warn("the recordings and ", what, ": ", finding.message);
  }
  APO_CHECK(DataError, wrong.empty(), "the recordings do not suit the policy ", what, ": ", wrong,
            "; `apo-data validate` with this config tells more; data.checks=warn trains on them as they are");
  return dataset;
}

std::string fingerprint(const data::Dataset& dataset) {
  Hash hash;
  for (const data::Pool pool : {data::Pool::desirable, data::Pool::intervention, data::Pool::undesirable}) {
    hash.add_number(static_cast<int64_t>(dataset.pool(pool).size()));
    for (const data::StepIndex& index : dataset.pool(pool)) {
      const data::Sample sample = dataset.sample_without_observation(index);
      hash.add_number(index.file);
      hash.add_number(index.episode);
      hash.add_number(index.timestep);
      hash.add_number(sample.desirable);
      hash.add_number(static_cast<int64_t>(sample.source));
      hash.add(dataset.record(index.file, index.episode).instruction);
      hash.add(sample.actions.front());
      hash.add(sample.dimension_credit);
      hash.add(sample.policy_actions.empty() ? Action() : sample.policy_actions.front());
    }
  }
  return hash.text();
}

// One observation of every kind that the episodes have must suit the policy, before training meets it by
// chance.
void check_observations(const data::Dataset& dataset, const models::Policy& policy,
                        const std::string& checkpoint) {
  std::set<std::vector<std::string>> kinds;
  std::pair<int32_t, int32_t> last = {-1, -1};
  for (const data::StepIndex& index : dataset.kept_steps()) {
    if (std::exchange(last, {index.file, index.episode}) == std::pair(index.file, index.episode)) continue;
    if (!kinds.insert(dataset.record(index.file, index.episode).observation_names).second) continue;
    try {
      Observation observation = dataset.observation(index);
      policy.prepare(observation);
      policy.encode(std::span(&observation, 1));
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      throw DataError(concat(dataset.file_path(index.file).string(), ": ",
                             dataset.episode_name(index.file, index.episode), ": does not suit the policy",
                             checkpoint.empty() ? "" : " " + checkpoint, ": ", error.what(),
                             data::unused_observations(dataset.record(index.file, index.episode))));
    }
  }
}

bool trains_adapter(models::Policy& policy) {
  const models::AdapterSlots* slots = policy.adapter_slots();
  return slots != nullptr && !slots->active().empty();
}

std::unique_ptr<models::Policy> starting_policy(const TrainingOptions& options, const data::Dataset& dataset,
                                                at::Device device) {
  if (!options.objective.imitates() && options.policy.checkpoint.empty())
    log_warn(
        "policy.checkpoint is empty: policy and reference know nothing yet, and a preference between "
        "recorded steps teaches little from there; train by imitation first (objective.type sft) and begin "
        "from its run directory");
  const auto facts = options.policy.checkpoint.empty() ? std::optional(data_facts(dataset)) : std::nullopt;
  auto policy = models::make_policy(options.policy, facts ? &*facts : nullptr,
                                    static_cast<uint64_t>(options.run.seed), device);
  APO_CHECK(ConfigError, !models::is_quantized(options.policy) || trains_adapter(*policy),
            "policy: quantized weights do not train; expected an adapter (policy.lora.rank above 0), or "
            "policy.openvla.quantization and policy.pi0_fast.quantization none");
  if (options.policy.lora.merge && trains_adapter(*policy)) {
    models::merge_adapter(*policy);
    log_info("policy: merged the adapter into the weights; all of them train");
  }
  if (options.policy.lora.dropout > 0 && options.objective.needs_reference() && trains_adapter(*policy))
    log_warn("policy.lora.dropout: ", options.policy.lora.dropout,
             ": the objective compares the policy with its reference, and dropout is noise in both; they "
             "drop the same units, so that equal policies have rewards of 0, but 0 is better for every "
             "objective with a reference");
  for (const auto& [name, parameter] : models::trainable_parameters(*policy))
    if (parameter.scalar_type() == at::kBFloat16 || parameter.scalar_type() == at::kHalf) {
      log_warn("policy: ", name,
               " and others train in half precision: updates below its rounding are lost; set "
               "policy.openvla.dtype=float32, or train an adapter (policy.lora.rank)");
      break;
    }
  if (!policy->codec().bins()) {
    const char* needs =
        ", which needs tokens that are ordered bins of one action dimension each; this policy's are not";
    APO_CHECK(ConfigError, options.objective.label_smoothing_bins == 0,
              "objective.label_smoothing_bins: expected 0, found ", options.objective.label_smoothing_bins,
              needs);
    APO_CHECK(ConfigError, options.objective.credit != objective::Credit::dimension,
              "objective.credit: expected sample, found dimension", needs);
  }
  APO_CHECK(ConfigError, policy->horizon() == 1 || options.objective.type != objective::ObjectiveType::tpo,
            "objective.type: tpo compares whole corrections step by step; of a policy that decides ",
            policy->horizon(), " steps at once it would count each step up to ", policy->horizon(),
            " times; expected apo, kto or dpo");
  APO_CHECK(ConfigError, policy->action_size() == dataset.action_size(),
            "policy.checkpoint: ", options.policy.checkpoint, ": acts in ", policy->action_size(),
            " dimensions, but the recorded actions in ", dataset.file_path(0).string(), " have ",
            dataset.action_size());
  check_observations(dataset, *policy, options.policy.checkpoint);
  return policy;
}

ParameterCounts count_parameters(const models::Policy& policy) {
  ParameterCounts counts;
  for (const auto& [name, parameter] : policy.named_parameters()) {
    counts.all += models::num_weights(name, parameter);
    if (parameter.requires_grad()) counts.trained += parameter.numel();
  }
  return counts;
}

LibrarySettings::LibrarySettings(const RunOptions& options)
    : threads_(at::get_num_threads()),
      deterministic_(at::globalContext().deterministicAlgorithms()),
      warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()),
      fill_(at::globalContext().deterministicFillUninitializedMemory()),
      tf32_convolutions_(rounds_to_tf32(at::Float32Op::CONV)),
      tf32_products_(rounds_to_tf32(at::Float32Op::MATMUL)) {
  set_up_arithmetic(options);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  // no part of determinism, and slow
  at::globalContext().setDeterministicFillUninitializedMemory(false);
}

LibrarySettings::~LibrarySettings() {
  at::set_num_threads(threads_);
  at::globalContext().setDeterministicAlgorithms(deterministic_, warn_only_);
  at::globalContext().setDeterministicFillUninitializedMemory(fill_);
  at::globalContext().setAllowTF32CuDNN(tf32_convolutions_);
  at::globalContext().setAllowTF32CuBLAS(tf32_products_);
}

}  // namespace apo::training
