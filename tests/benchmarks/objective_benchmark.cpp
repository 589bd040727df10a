// The objective's cost: 64 samples x 8 tokens x 32,064 logits, float32, against log_softmax + gather on one
// such tensor.
//
//   build/release/bin/objective_benchmark
//
// Each case's argument is the number of threads. "plain" does the policy's forward and backward pass alone;
// "apo" does the policy's forward and backward pass, the reference's forward pass, z0, weights and loss.
// "head" begins with hidden states [8, 60, 512]: head, scores and loss of policy and reference, and all
// gradients, with a vocabulary of pi0-FAST's size; "at_once" makes each of its logits in one tensor,
// "in_pieces" as a policy does. peak_MiB is what this takes beyond hidden states and heads.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/types.h>

#include <limits>
#include <memory>

#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"
#include "base/peak_memory.h"

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

void head(benchmark::State& state, int64_t vocabulary, int64_t piece_bytes, ObjectiveOptions options) {
  at::set_num_threads(static_cast<int>(state.range(0)));
  at::manual_seed(1);
  const at::Tensor policy = at::randn({8, 60, 512}).set_requires_grad(true),
                   reference = at::randn({8, 60, 512}), weight = at::randn({vocabulary, 512}) * 0.05;
  Batch batch;
  batch.tokens = at::randint(0, vocabulary, {8, 60}, at::kLong);
  batch.desirable = at::arange(8, at::kLong).remainder(4).ne(3);
  batch.action_l1 = at::rand({8});
  const auto logits = [&](const at::Tensor& hidden) {
    return Score{
        {hidden, vocabulary, [&](const at::Tensor& rows) { return at::linear(rows, weight); }, piece_bytes},
        {}};
  };
  int64_t peak = 0;
  for (auto _ : state) {
    const auto memory = std::make_shared<PeakMemory>(at::kCPU);
    const c10::DebugInfoGuard follow(c10::DebugInfoKind::PROFILER_STATE, memory);
    ReferenceScores kept;
    {
      const at::NoGradGuard no_grad;
      kept = reference_scores(batch, options, logits(reference));
    }
    const ScoredBatch scored = score(batch, options, logits(policy), kept);
    evaluate(scored, measure(scored)).loss.backward();
    policy.mutable_grad() = at::Tensor();
    peak = std::max(peak, memory->peak_bytes());
  }
  state.counters["peak_MiB"] = static_cast<double>(peak) / (1 << 20);
}

void threads(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK(plain)->Apply(threads);
BENCHMARK(token_log_probs_alone)->Apply(threads);
BENCHMARK_CAPTURE(apo, shifted_labels, at::kFloat, {.reference_kl_weight = 0})->Apply(threads);
BENCHMARK_CAPTURE(apo, held, at::kFloat, {})->Apply(threads);
BENCHMARK_CAPTURE(apo, exact, at::kFloat, {.z0 = Z0Estimator::exact, .reference_kl_weight = 0})
    ->Apply(threads);
BENCHMARK_CAPTURE(apo, smooth_labels, at::kFloat, {.reference_kl_weight = 0, .label_smoothing_bins = 3.0})
    ->Apply(threads);
BENCHMARK_CAPTURE(apo, bfloat16, at::kBFloat16, {.reference_kl_weight = 0})->Apply(threads);
BENCHMARK_CAPTURE(head, at_once_32064, 32064, std::numeric_limits<int64_t>::max(), {.reference_kl_weight = 0})
    ->Apply(threads);
BENCHMARK_CAPTURE(head, in_pieces_32064, 32064, Logits::kPieceBytes, {.reference_kl_weight = 0})
    ->Apply(threads);
BENCHMARK_CAPTURE(head, at_once_257152, 257152, std::numeric_limits<int64_t>::max(),
                  {.reference_kl_weight = 0})
    ->Apply(threads);
BENCHMARK_CAPTURE(head, in_pieces_257152, 257152, Logits::kPieceBytes, {.reference_kl_weight = 0})
    ->Apply(threads);
BENCHMARK_CAPTURE(head, held_at_once_257152, 257152, std::numeric_limits<int64_t>::max(), {})->Apply(threads);
BENCHMARK_CAPTURE(head, held_in_pieces_257152, 257152, Logits::kPieceBytes, {})->Apply(threads);

}  // namespace
}  // namespace apo::objective

BENCHMARK_MAIN();
