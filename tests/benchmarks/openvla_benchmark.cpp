// Decoding, scoring and a training step of an OpenVLA checkpoint; tests/benchmarks/openvla_generate.py is
// transformers' generate and tests/benchmarks/openvla_step.py the released training step on the same.
//
//   python scripts/openvla/make_checkpoint.py --size mid runs/openvla_mid
//   APO_BENCHMARK_CHECKPOINT=runs/openvla_mid OMP_NUM_THREADS=2 build/release/bin/openvla_benchmark
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include <array>
#include <cstdlib>
#include <span>

#include "apo/models/registry.h"
#include "training/learner.h"
#include "training/optimizer.h"

namespace apo::models {
namespace {

std::unique_ptr<Policy> checkpoint_policy(const char* dtype = "float32", bool action_tokens_only = false) {
  const char* path = std::getenv("APO_BENCHMARK_CHECKPOINT");
  if (path == nullptr) return nullptr;
  PolicyOptions options;
  options.checkpoint = path;
  options.of<OpenVlaOptions>().dtype = dtype;
  options.of<OpenVlaOptions>().action_tokens_only = action_tokens_only;
  // the base alone: features are not computed ahead, so that every decoding runs the towers
  return make_policy(options, nullptr, 0, at::kCPU);
}

std::vector<Observation> pictures(int64_t count) {
  at::manual_seed(0);
  std::vector<Observation> observations(static_cast<size_t>(count));
  for (Observation& observation : observations) {
    observation.images["agentview"] = at::randint(0, 256, {224, 224, 3}, at::kByte);
    observation.instruction = "pick up the red block";
  }
  return observations;
}

// Observations to seven tokens: preprocessing, towers, prefill, six more steps; over the whole vocabulary, as
// transformers' generate, or among the action tokens, as a policy does by default.
void greedy_decode(benchmark::State& state) {
  const auto policy = checkpoint_policy(state.range(1) != 0 ? "bfloat16" : "float32", state.range(2) != 0);
  if (!policy) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  const std::vector<Observation> observations = pictures(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(policy->decode(policy->encode(observations)));
  state.counters["observations_per_second"] = benchmark::Counter(
      static_cast<double>(state.iterations() * state.range(0)), benchmark::Counter::kIsRate);
}
BENCHMARK(greedy_decode)
    ->ArgNames({"batch", "bfloat16", "action_tokens_only"})
    ->ArgsProduct({{1, 8}, {0, 1}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// One observation after another that decide the same (alternate = 0: every draft is right) or not (1: of two
// pictures in turn), token by token (draft = 0) or with the last decision as a draft.
void speculative_decode(benchmark::State& state) {
  const char* path = std::getenv("APO_BENCHMARK_CHECKPOINT");
  if (path == nullptr) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  PolicyOptions options;
  options.checkpoint = path;
  options.of<OpenVlaOptions>().speculative = state.range(0) != 0;
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  const std::vector<Observation> observations = pictures(2);
  const std::span<const Observation> all = observations;
  size_t turn = 0;
  for (auto _ : state) {
    turn = state.range(1) != 0 ? 1 - turn : 0;
    benchmark::DoNotOptimize(policy->decode(policy->encode(all.subspan(turn, 1))));
  }
}
BENCHMARK(speculative_decode)
    ->ArgNames({"draft", "alternate"})
    ->ArgsProduct({{0, 1}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

// Teacher-forced logits without gradient, with one answer and with a second one that shares the prefix.
void score(benchmark::State& state) {
  const auto policy = checkpoint_policy();
  if (!policy) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  const at::NoGradGuard no_grad;
  const std::vector<Observation> observations = pictures(8);
  const std::vector<Action> actions(8, Action(static_cast<size_t>(policy->action_size()), 0.0f));
  const ActionTokens tokens = policy->tokenize(actions);
  for (auto _ : state)
    benchmark::DoNotOptimize(
        policy->score(policy->encode(observations), tokens, state.range(0) == 2 ? &tokens : nullptr));
}
BENCHMARK(score)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);

// Forward of policy and reference, objective, backward and Adam on 8 samples, with a fresh adapter of rank 32
// on every linear layer; quantization 1, 2, 3: float8, int8, nf4; pictures and actions are decoded before.
// Peak memory: `/usr/bin/time -v` of this benchmark alone.
void train_step(benchmark::State& state) {
  const char* path = std::getenv("APO_BENCHMARK_CHECKPOINT");
  if (path == nullptr) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  PolicyOptions options;
  options.checkpoint = path;
  options.lora.rank = 32;
  options.lora.init = "gaussian";
  options.of<OpenVlaOptions>().activation_checkpointing = state.range(0) != 0;
  constexpr std::array<const char*, 4> kQuantizations{"none", "float8", "int8", "nf4"};
  options.of<OpenVlaOptions>().quantization = kQuantizations[static_cast<size_t>(state.range(1))];
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  policy->set_training(true);
  training::LiveReference reference(*policy, {});
  training::Learner learner(*policy, &reference, {}, 0, false);
  training::Adam adam({.type = "adam"}, trainable_parameters(*policy));
  std::vector<data::Sample> samples(8);
  const std::vector<Observation> observations = pictures(8);
  constexpr std::array<const char*, 4> kInstructions{"lift", "stack the red block on the green block",
                                                     "thread the needle", "put the square nut on the peg"};
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].observation = observations[i];
    samples[i].observation.instruction = kInstructions[i % kInstructions.size()];
    samples[i].actions = {Action(static_cast<size_t>(policy->action_size()), 0.01f * static_cast<float>(i))};
    samples[i].desirable = i < 6;
  }
  for (auto _ : state) {
    adam.zero_gradients();
    std::vector<data::Sample> batch = samples;  // learning takes the pictures
    benchmark::DoNotOptimize(learner.learn(batch));
    adam.update(5e-5);
  }
  state.counters["samples_per_second"] =
      benchmark::Counter(static_cast<double>(state.iterations() * 8), benchmark::Counter::kIsRate);
}
BENCHMARK(train_step)
    ->ArgNames({"checkpointing", "quantization"})
    ->ArgsProduct({{0, 1}, {0}})
    ->ArgsProduct({{0}, {1, 2, 3}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace apo::models

BENCHMARK_MAIN();
