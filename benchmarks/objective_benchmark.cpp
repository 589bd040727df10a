// The objective's cost: 64 samples x 8 tokens x 32,064 logits, float32, against log_softmax + gather on one
// such tensor.
//
//   build/release/benchmarks/objective_benchmark
//
// Each case's argument is the number of threads. "plain" does the policy's forward and backward pass alone;
// "apo" does the policy's forward and backward pass, the reference's forward pass, z0, weights and loss.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"

namespace apo::objective {
namespace {

constexpr int64_t kSamples = 64, kTokens = 8, kVocabulary = 32064;

ObjectiveInput make_input(at::ScalarType type) {
  at::manual_seed(1);
  ObjectiveInput input;
  input.policy_logits = at::randn({kSamples, kTokens, kVocabulary}).to(type).set_requires_grad(true);
  input.reference_logits = at::randn({kSamples, kTokens, kVocabulary}).to(type);
  input.tokens = at::randint(31744, 32000, {kSamples, kTokens}, at::kLong);
  input.desirable = at::arange(kSamples, at::kLong).remainder(4).ne(3);
  input.action_l1 = at::rand({kSamples});
  input.first_action_token = 31744, input.last_action_token = 31999;
  return input;
}

void backward(const at::Tensor& loss, ObjectiveInput& input) {
  input.policy_logits.mutable_grad() = at::Tensor();
  loss.backward();
}

void plain(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(0)));
  ObjectiveInput input = make_input(at::kFloat);
  for (auto _ : state) {
    const at::Tensor log_p = at::log_softmax(input.policy_logits, -1);
    backward(log_p.gather(-1, input.tokens.unsqueeze(-1)).sum(), input);
  }
}

void token_log_probs_alone(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(0)));
  ObjectiveInput input = make_input(at::kFloat);
  for (auto _ : state) backward(token_log_probs(input.policy_logits, input.tokens).sum(), input);
}

void apo(benchmark::State& state, at::ScalarType type, ObjectiveOptions options) {
  at::set_num_threads(static_cast<int>(state.range(0)));
  ObjectiveInput input = make_input(type);
  for (auto _ : state) backward(apo_loss(input, options).loss, input);
}

void threads(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(plain)->Apply(threads);
BENCHMARK(token_log_probs_alone)->Apply(threads);
BENCHMARK_CAPTURE(apo, shifted_labels, at::kFloat, {.reference_kl_weight = 0})->Apply(threads);
BENCHMARK_CAPTURE(apo, held, at::kFloat, {})->Apply(threads);
BENCHMARK_CAPTURE(apo, exact, at::kFloat, {.z0 = Z0Estimator::exact, .reference_kl_weight = 0})->Apply(threads);
BENCHMARK_CAPTURE(apo, smooth_labels, at::kFloat, {.reference_kl_weight = 0, .label_smoothing_bins = 3.0})->Apply(threads);
BENCHMARK_CAPTURE(apo, bfloat16, at::kBFloat16, {.reference_kl_weight = 0})->Apply(threads);

}  // namespace
}  // namespace apo::objective

BENCHMARK_MAIN();
