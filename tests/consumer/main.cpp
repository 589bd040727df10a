// Computes an APO loss and its gradient with the installed library: three samples, two action tokens, four
// bins.
#include <apo/objective/objective.h>
#include <torch/types.h>

#include <cmath>
#include <cstdio>

int main() {
  namespace objective = apo::objective;
  const at::Tensor reference = torch::tensor({0.1f, -0.4f, 0.7f, 0.2f}).expand({3, 2, 4}).contiguous();
  const at::Tensor policy = reference.clone().set_requires_grad(true);

  objective::ObjectiveInput input;
  input.policy_logits = policy;                                                    // [B, T, V]
  input.reference_logits = reference;                                              // [B, T, V]
  input.tokens = torch::tensor({0, 1, 2, 3, 1, 2}, torch::kLong).reshape({3, 2});  // [B, T]
  input.desirable = torch::tensor({true, true, false});                            // [B]
  input.action_l1 = torch::tensor({0.2f, 0.6f, 0.5f});                             // [B]
  const objective::ObjectiveOutput out = objective::apo_loss(input, {.beta = 0.1});
  out.loss.backward();

  // the policy is the reference: r = 0, z0 = 0, every unweighted loss 0.5; three of a group of eight samples:
  // w = 3/8 of 1/4, 3/4 and 1, λ = 1 − e^−3/32, 1 − e^−9/32, e^−3/8; the mean of the three and the
  // mean cross-entropy of tokens 0, 1, 2 and 3
  const double preference =
      0.5 * ((1 - std::exp(-3.0 / 32)) + (1 - std::exp(-9.0 / 32)) + std::exp(-3.0 / 8)) / 3;
  const double logsumexp = std::log(std::exp(0.1) + std::exp(-0.4) + std::exp(0.7) + std::exp(0.2));
  const double expected = preference + (logsumexp - (0.1 - 0.4 + 0.7 + 0.2) / 4);
  const double loss = out.loss.item<double>(), gradient = policy.grad().norm().item<double>();
  std::printf("loss %.6f (expected %.6f), gradient norm %.6f\n", loss, expected, gradient);
  return std::abs(loss - expected) < 1e-6 && gradient > 0 ? 0 : 1;
}
