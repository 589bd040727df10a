#include <c10/util/Exception.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/types.h>

#include <algorithm>
#include <iomanip>
#include <map>
#include <optional>
#include <ostream>

#include "apo/base/device.h"
#include "apo/base/error.h"
#include "apo/models/reference.h"
#include "apo/models/registry.h"
#include "apo/training/trainer.h"
#include "base/peak_memory.h"
#include "training/checkpoint.h"
#include "training/guard.h"
#include "training/learner.h"
#include "training/run_directory.h"
#include "training/setup.h"

namespace apo::training {
namespace {

struct MemoryEstimate {
  int64_t weights = 0, reference = 0, gradients = 0, optimizer = 0, activations = 0;
};

std::optional<int64_t> known_activations(const models::Policy& policy,
                                         const std::vector<data::Sample>& samples) {
  std::vector<Observation> observations;
  std::vector<ActionChunk> actions;
  for (const data::Sample& sample : samples) {
    observations.push_back(sample.observation);
    actions.push_back(sample.actions);
  }
  const models::PolicyInput input = policy.encode(observations);
  return policy.activation_bytes(input, policy.tokenize(actions, &input));
}

// Bytes of activations and logits for one micro-batch: what the policy says, or measured on a forward and
// backward pass of a few samples of the run's own data and scaled up; the logits that this objective has
// beside them are added.
int64_t measure_activations(const TrainingOptions& options, const data::Dataset& dataset,
                            const data::PoolSampler& sampler, models::Policy& policy,
                            int64_t gradient_bytes) {
  const int64_t micro_batch =
      options.train.micro_batch_size > 0 ? options.train.micro_batch_size : options.train.batch_size;
  const int64_t measured = std::min<int64_t>(micro_batch, 2);
  const auto first_samples = [&] {
    std::vector<data::Sample> samples;
    for (const data::StepIndex& index : sampler.batch(0)) {
      if (static_cast<int64_t>(samples.size()) == measured) break;
      samples.push_back(dataset.sample(index));
      policy.prepare(samples.back().observation);
    }
    return samples;
  };
  if (const auto known = known_activations(policy, first_samples())) return *known * micro_batch / measured;
  objective::ObjectiveOptions plain;
  plain.type = objective::ObjectiveType::sft;
  Learner learner(policy, nullptr, plain, 0, options.run.precision == "bfloat16");
  const auto memory = std::make_shared<PeakMemory>(policy.device().type());
  int64_t num_tokens = 0;
  {
    // whatever is freed in here must also be allocated in here
    const c10::DebugInfoGuard follow(c10::DebugInfoKind::PROFILER_STATE, memory);
    std::vector<data::Sample> samples = first_samples();
    num_tokens = learner.learn(samples).mask.size(1);
  }
  int64_t bytes = std::max<int64_t>(memory->peak_bytes() - gradient_bytes, 0) * micro_batch / measured;
  const int64_t logits_of_a_sample = num_tokens * policy.vocabulary_size() * int64_t{sizeof(float)};
  // kept
  if (options.objective.compares_distributions()) bytes += options.train.batch_size * logits_of_a_sample;
  if (options.objective.needs_mismatched_logits()) bytes += micro_batch * logits_of_a_sample;
  return bytes;
}

MemoryEstimate estimate_memory(const TrainingOptions& options, const data::Dataset& dataset,
                               const data::PoolSampler& sampler, models::Policy& policy) {
  MemoryEstimate memory;
  memory.weights = size_bytes(policy.named_parameters());
  const models::NamedTensors trained = models::trainable_parameters(policy);
  memory.gradients = size_bytes(trained);
  for (const auto& [name, parameter] : trained)
    memory.optimizer += 2 * parameter.numel() * std::max<int64_t>(parameter.element_size(), sizeof(float));
  memory.activations = measure_activations(options, dataset, sampler, policy, memory.gradients);
  if (!options.objective.needs_reference() || !options.reference.keeps_policy()) return memory;
  const bool adapter = options.reference.mode != models::ReferenceMode::copy && trains_adapter(policy);
  memory.reference = adapter ? memory.gradients : memory.weights;
  // says what is wrong with reference.mode, where trying is cheap
  if (adapter || options.reference.mode == models::ReferenceMode::adapter)
    models::Reference(policy, options.reference);
  return memory;
}

std::string mebibytes(int64_t bytes) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(1) << static_cast<double>(bytes) / (1 << 20) << " MiB";
  return out.str();
}

void print_data(const TrainingOptions& options, const data::Dataset& dataset,
                const data::PoolSampler& sampler, std::ostream& out) {
  out << "data         " << dataset.num_episodes() << " episodes in " << dataset.num_files()
      << " files, actions of " << dataset.action_size() << " dimensions\n";
  for (const auto& [label, count] : dataset.counts())
    out << "  " << std::setw(9) << count << "  " << label << "\n";
  const auto counts = sampler.counts();
  const auto row = [&](const char* name, data::Pool pool, int64_t in_batch) {
    out << "  " << std::setw(9) << dataset.pool(pool).size() << "  " << name << " pool, " << in_batch
        << " of " << options.train.batch_size << " samples of a batch\n";
  };
  out << "pools\n";
  row("desirable", data::Pool::desirable, counts[0]);
  row("intervention", data::Pool::intervention, counts[1]);
  row("undesirable", data::Pool::undesirable, counts[2]);
}

// Parameters by the first part of their names, where that gives a short list.
void print_parts(const models::Policy& policy, std::ostream& out) {
  constexpr size_t kMostParts = 6;
  std::map<std::string, int64_t> parts;
  for (const auto& [name, parameter] : policy.named_parameters())
    parts[name.find(".lora_") != std::string::npos ? "adapter" : name.substr(0, name.find('.'))] +=
        models::num_weights(name, parameter);
  if (parts.size() > kMostParts) return;
  for (const auto& [part, count] : parts) out << "  " << std::setw(12) << count << "  " << part << "\n";
}

struct Answers {
  at::Tensor log_prob, greedy, counted;  // a number, and [1, T] each
};

Answers answers_of(models::Policy& policy, const data::Dataset& dataset, const data::StepIndex& step) {
  const at::NoGradGuard no_grad;
  data::Sample sample = dataset.sample(step);
  policy.prepare(sample.observation);
  const models::PolicyInput input = policy.encode({&sample.observation, 1});
  const models::ActionTokens tokens = policy.tokenize({&sample.actions, 1}, &input);
  objective::Batch batch{.tokens = tokens.ids, .mask = tokens.mask};
  if (const auto bins = policy.codec().bins()) {
    batch.first_action_token = bins->first;
    batch.last_action_token = bins->last;
  }
  objective::ObjectiveOptions plain;
  plain.type = objective::ObjectiveType::sft;
  const auto scores =
      objective::score(batch, plain, policy.score(input, tokens), {}, {.statistics = false, .greedy = true})
          .scores;
  at::Tensor counted = tokens.mask;
  if (tokens.end_token.defined()) counted = counted.logical_and(tokens.end_token.logical_not());
  return {scores.policy.to(at::kDouble).masked_fill(tokens.mask.logical_not(), 0).sum(), scores.greedy,
          counted};
}

// What few bits cost: the first recorded steps of a batch against the weights as they are stored.
void print_quantization(const TrainingOptions& options, const data::Dataset& dataset,
                        const data::PoolSampler& sampler, models::Policy& policy, at::Device device,
                        std::ostream& out) {
  if (!models::is_quantized(options.policy)) return;
  constexpr size_t kCompared = 8;
  std::vector<data::StepIndex> steps = sampler.batch(0);
  steps.resize(std::min(steps.size(), kCompared));
  policy.set_training(false);
  double sum = 0, most = 0;
  int64_t others = 0, counted = 0;
  try {
    const auto stored = models::make_policy(models::without_quantization(options.policy), nullptr,
                                            static_cast<uint64_t>(options.run.seed), device);
    for (const data::StepIndex& step : steps) {
      const Answers few = answers_of(policy, dataset, step), all = answers_of(*stored, dataset, step);
      const double change = (few.log_prob - all.log_prob).abs().item<double>();
      sum += change;
      most = std::max(most, change);
      others += few.greedy.ne(all.greedy).logical_and(few.counted).sum().item<int64_t>();
      counted += few.counted.sum().item<int64_t>();
    }
  } catch (const c10::OutOfMemoryError&) {
    out << "quantization not compared with the weights as stored: both do not fit into the memory of "
        << device.str() << "\n";
    return;
  }
  out << "quantization the log-probability of " << steps.size() << " recorded answers moves by "
      << sum / static_cast<double>(steps.size()) << " in the mean, " << most << " at most; " << others
      << " of " << counted << " action tokens are decided otherwise than by the weights as stored\n";
}

}  // namespace

void dry_run(const TrainingOptions& options, std::ostream& out) {
  check(options);
  if (!options.run.dir.empty()) check_run_directory(options.run.dir);
  const at::Device device = select_device(options.run.device);
  const LibrarySettings library(options.run);
  const auto opened = open_data(options);
  const data::Dataset& dataset = *opened;
  const auto policy = starting_policy(options, dataset, device);
  set_chunks(*opened, *policy);
  const data::PoolSampler sampler = make_sampler(options, dataset);
  print_data(options, dataset, sampler, out);

  policy->set_training(true);
  const ParameterCounts parameters = count_parameters(*policy);
  APO_CHECK(ConfigError, parameters.trained > 0,
            "policy: expected at least one trained parameter, found none");
  out << "policy       " << parameters.all << " parameters, " << parameters.trained << " trained, on "
      << device.str() << "\n";
  print_parts(*policy, out);
  const auto counts = sampler.counts();
  if (const std::string text = balance_text(options.objective, counts); !text.empty())
    out << "objective    " << text << "\n";
  warn_of_balance(options.objective, counts);

  const MemoryEstimate memory = estimate_memory(options, dataset, sampler, *policy);
  out << "memory       "
      << mebibytes(memory.weights + memory.reference + memory.gradients + memory.optimizer +
                   memory.activations)
      << " (estimate, beside the libraries and the cache of pictures)\n";
  const auto part = [&out](const char* name, int64_t bytes) {
    out << "  " << std::setw(12) << mebibytes(bytes) << "  " << name << "\n";
  };
  part("weights", memory.weights);
  part("reference", memory.reference);
  part("gradients", memory.gradients);
  part(options.distributed.shard_optimizer ? "optimizer, of all ranks together" : "optimizer",
       memory.optimizer);
  part("activations of one micro-batch, and logits", memory.activations);

  print_quantization(options, dataset, sampler, *policy, device, out);

  const int64_t steps = total_steps(options.train, sampler);
  out << "steps        " << steps << " of " << options.train.batch_size << " samples; "
      << static_cast<double>(steps) / static_cast<double>(sampler.batches_per_epoch()) << " epochs of "
      << sampler.batches_per_epoch() << " steps\n";
}

}  // namespace apo::training
