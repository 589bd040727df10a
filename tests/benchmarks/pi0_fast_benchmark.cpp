// Decoding with and without a cache, and the memory of a scoring step, of a pi0-FAST checkpoint.
//
//   python scripts/pi0_fast/make_checkpoint.py runs/pi0_fast_mid --size mid
//   APO_BENCHMARK_CHECKPOINT=runs/pi0_fast_mid OMP_NUM_THREADS=2 build/release/bin/pi0_fast_benchmark
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include <cstdlib>
#include <fstream>

#include "apo/models/registry.h"

namespace apo::models {
namespace {

constexpr int64_t kTokens = 60;

std::unique_ptr<Policy> checkpoint_policy() {
  const char* path = std::getenv("APO_BENCHMARK_CHECKPOINT");
  if (path == nullptr) return nullptr;
  PolicyOptions options;
  options.checkpoint = path;
  options.cameras = {"", "agentview", "wrist"};
  options.state_keys = {"state"};
  return make_policy(options, nullptr, 0, at::kCPU);
}

std::vector<Observation> observations(int64_t count) {
  at::manual_seed(0);
  std::vector<Observation> all(static_cast<size_t>(count));
  for (Observation& observation : all) {
    for (const char* camera : {"agentview", "wrist"})
      observation.images[camera] = at::randint(0, 256, {224, 224, 3}, at::kByte);
    observation.state["state"] = std::vector<float>(8, 0.25f);
    observation.instruction = "pick up the red block";
  }
  return all;
}

ActionTokens answers(const Policy& policy, int64_t count) {
  ActionTokens tokens;
  tokens.ids = at::randint(policy.vocabulary_size() - 2000, policy.vocabulary_size() - 200, {count, kTokens},
                           at::kLong);
  tokens.mask = at::ones({count, kTokens}, at::kBool);
  return tokens;
}

// As many tokens as max_decoding_steps of the checkpoint, with a cache: a random network hardly ends one.
void decode(benchmark::State& state) {
  const auto policy = checkpoint_policy();
  if (!policy) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  const PolicyInput input = policy->encode(observations(1));
  int64_t tokens = 0;
  for (auto _ : state) tokens = policy->decode(input).size(1);
  state.counters["tokens"] = static_cast<double>(tokens);
}
BENCHMARK(decode)->UseRealTime()->Unit(benchmark::kMillisecond);

// The same number of tokens, each from a whole forward pass over all before it.
void decode_without_cache(benchmark::State& state) {
  const auto policy = checkpoint_policy();
  if (!policy) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  const at::NoGradGuard no_grad;
  const PolicyInput input = policy->encode(observations(1));
  const at::Tensor ids = policy->decode(input);
  for (auto _ : state)
    for (int64_t t = 1; t <= ids.size(1); ++t) {
      ActionTokens before;
      before.ids = ids.narrow(1, 0, t);
      const at::Tensor logits = policy->score(input, before).logits.slice(0, 1).whole();
      benchmark::DoNotOptimize(logits.select(1, t - 1).argmax(-1));
    }
  state.counters["tokens"] = static_cast<double>(ids.size(1));
}
BENCHMARK(decode_without_cache)->UseRealTime()->Unit(benchmark::kMillisecond);

double resident_mebibytes(const char* what) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(what))
      return std::strtod(line.c_str() + std::string(what).size() + 1, nullptr) / 1024;
  return 0;
}

// Log-probabilities of 8 answers of 60 tokens: how much memory the
// logits take beyond the hidden states.
void read_logits(benchmark::State& state) {
  const auto policy = checkpoint_policy();
  if (!policy) return state.SkipWithError("set APO_BENCHMARK_CHECKPOINT to a checkpoint directory");
  for (auto& [name, tensor] : policy->named_parameters()) at::Tensor(tensor).set_requires_grad(false);
  const ActionTokens tokens = answers(*policy, 8);
  const PolicyInput input = policy->encode(observations(8));
  const Logits logits = policy->score(input, tokens).logits;
  const double before = resident_mebibytes("VmRSS:");
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak begins anew
  for (auto _ : state) {
    const at::NoGradGuard no_grad;
    benchmark::DoNotOptimize(logits.read([&](const Logits::Piece& piece) {
      return piece.logits.log_softmax(-1).gather(-1, piece.of(tokens.ids).unsqueeze(-1)).squeeze(-1);
    }));
  }
  state.counters["mebibytes_beyond_the_hidden_states"] = resident_mebibytes("VmHWM:") - before;
}
BENCHMARK(read_logits)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace apo::models

BENCHMARK_MAIN();
