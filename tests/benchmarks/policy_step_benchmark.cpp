// One training step and one batch of decoded actions of the built-in policy; tests/benchmarks/policy_step.py
// is the same network in eager PyTorch.
//
//   OMP_NUM_THREADS=1 build/release/bin/policy_step_benchmark
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include "apo/models/registry.h"
#include "models/small/policy.h"

namespace apo::models {
namespace {

// The tabletop's sizes: one 64x64 camera, five words, two numbers of state, seven actions of 256 bins.
std::unique_ptr<SmallPolicy> tabletop_policy() {
  const auto spread = [](size_t n) {
    const std::vector<double> zero(n, 0), one(n, 1), minus(n, -1);
    return tokenizers::VectorStatistics{.mean = zero,
                                        .std = one,
                                        .min = minus,
                                        .max = one,
                                        .q01 = minus,
                                        .q99 = one,
                                        .mask = std::vector<bool>(n, true)};
  };
  Preprocessing preprocessing;
  preprocessing.cameras = {"front"};
  preprocessing.state_keys = {"hand"};
  preprocessing.statistics.action = spread(7);
  preprocessing.statistics.state["hand"] = spread(2);
  return std::make_unique<SmallPolicy>(
      SmallShape{.vocabulary = 8, .state_size = 2}, preprocessing,
      Vocabulary({"<pad>", "<unk>", "block", "blue", "pick", "red", "the", "up"}, "benchmark"), 1, at::kCPU);
}

struct Batch {
  explicit Batch(int64_t size) {
    at::manual_seed(0);
    // as `encode` makes them
    input.images = (at::rand({size, 64, 64, 3}) - 0.5).permute({0, 3, 1, 2}).unsqueeze(1);
    input.prompt = at::randint(2, 8, {size, 5}, at::kLong);
    input.state = at::randn({size, 2});
    tokens.ids = at::randint(0, 256, {size, 7}, at::kLong);
    const at::Tensor bins = at::arange(256, at::kFloat);
    labels = ((bins.unsqueeze(1) - bins).div(3).square() * -0.5).exp();
    labels = labels / labels.sum(-1, true);
  }
  PolicyInput input;
  ActionTokens tokens;
  at::Tensor labels;  // [256, 256] Gaussian labels, 3 bins wide
};

void clip(const std::vector<at::Tensor>& gradients, double limit) {
  std::vector<at::Tensor> norms;
  for (const at::Tensor& gradient : gradients) norms.push_back(gradient.norm());
  const at::Tensor factor = (limit / (at::stack(norms).norm() + 1e-6)).clamp_max(1);
  for (const at::Tensor& gradient : gradients) at::Tensor(gradient).mul_(factor);
}

void train_step(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(1)));
  const auto policy = tabletop_policy();
  const Batch batch(state.range(0));
  std::vector<at::Tensor> parameters, first, second, steps, no_maximum;
  for (const auto& [name, tensor] : policy->named_parameters()) {
    parameters.push_back(tensor);
    first.push_back(at::zeros_like(tensor, at::TensorOptions().requires_grad(false)));
    second.push_back(first.back().clone());
    steps.push_back(at::zeros({}, at::kFloat));
  }
  for (auto _ : state) {
    for (at::Tensor& parameter : parameters) parameter.mutable_grad() = at::Tensor();
    const at::Tensor log_probs =
        policy->score(batch.input, batch.tokens, nullptr).logits.whole().log_softmax(-1);
    const at::Tensor targets = at::embedding(batch.labels, batch.tokens.ids);
    const at::Tensor loss = -(targets * log_probs).sum(-1).mean();
    loss.backward();
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& parameter : parameters) gradients.push_back(parameter.grad());
    const at::NoGradGuard no_grad;
    clip(gradients, 1.0);
    for (at::Tensor& step : steps) step += 1;
    at::_fused_adamw_(parameters, gradients, first, second, no_maximum, steps, /*lr=*/1e-3, 0.9, 0.95,
                      /*weight_decay=*/0.05, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(train_step)
    ->ArgNames({"batch", "threads"})
    ->ArgsProduct({{32, 48}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void act(benchmark::State& state) {
  at::set_num_threads(static_cast<int>(state.range(1)));
  const auto policy = tabletop_policy();
  const Batch batch(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(policy->decode(batch.input, {}));
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(act)
    ->ArgNames({"batch", "threads"})
    ->ArgsProduct({{1, 32, 100}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace apo::models

BENCHMARK_MAIN();
