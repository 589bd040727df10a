// reference_kl_weight: what holds the policy to its reference.
#include <gtest/gtest.h>

#include <cmath>

#include "apo/objective/log_prob.h"
#include "apo/objective/objective.h"
#include "objective/batch.h"
#include "objective/pencil_batch.h"

namespace apo::objective {
namespace {

using testing::distance;
using testing::kPaper;
using testing::number;
using testing::pencil_batch;
using testing::random_batch;

TEST(Hold, AddsTheMeanReferenceKlOfHeldTokensBesideOneSamplesLoss) {
  // by hand: KL(reference‖policy) of A's tokens, (1/2, 1/2) against (3/4, 1/4) and (3/4, 1/4) against (1/2,
  // 1/2):
  // ln(2/3) / 2 + ln 2 / 2 = ln(4/3) / 2;   3/4 ln(3/2) + 1/4 ln(1/2) = 3/4 ln 3 - ln 2
  ObjectiveInput input = pencil_batch();
  const double kl = (std::log(4.0 / 3) / 2 + 0.75 * std::log(3.0) - std::log(2.0)) / 2;
  const ObjectiveOutput plain = apo_loss(input, kPaper);
  EXPECT_FALSE(plain.reference_kl.defined());
  for (const auto& [reduction, samples] : {std::pair{Reduction::mean, 1.0}, std::pair{Reduction::sum, 2.0}}) {
    ObjectiveOptions held = kPaper;
    held.reduction = reduction, held.reference_kl_weight = 0.25;
    const ObjectiveOutput out = apo_loss(input, held);  // without `held`: the desirable sample
    EXPECT_NEAR(number(out.reference_kl), kl, 1e-12);
    EXPECT_NEAR(number(out.loss), samples * (number(plain.loss) / 2 + 0.25 * kl), 1e-12);
  }
  // nothing is held where nobody says so, or where no token counts
  ObjectiveOptions held = kPaper;
  held.reference_kl_weight = 0.25;
  input.held = at::zeros({2}, at::kBool);
  EXPECT_NEAR(number(apo_loss(input, held).loss), number(plain.loss), 1e-12);
  input.held = at::ones({2}, at::kBool);
  input.mask = at::tensor({1, 0, 0, 0}, at::kLong).view({2, 2}).to(at::kBool);
  EXPECT_NEAR(number(apo_loss(input, held).reference_kl), std::log(4.0 / 3) / 2, 1e-12);
}

TEST(Hold, PullsTheHeldSamplesToTheReferenceAndNoOthers) {
  ObjectiveInput input = random_batch();
  input.policy_logits.set_requires_grad(true);
  const at::Tensor kl = token_reference_kl(input.policy_logits, input.reference_logits,
                                           input.mask.bitwise_and(input.held.unsqueeze(-1)));
  kl.sum().backward();
  const at::Tensor expected =
      (at::softmax(input.policy_logits.detach(), -1) - at::softmax(input.reference_logits, -1)) *
      input.mask.bitwise_and(input.held.unsqueeze(-1)).unsqueeze(-1);
  EXPECT_LT(distance(input.policy_logits.grad(), expected), 1e-12);
  // where nothing is read, nothing reaches: not even NaN
  input.policy_logits = input.policy_logits.detach().clone();
  input.policy_logits[1] = std::nan(""), input.reference_logits[1] = std::nan("");  // sample 1 is not held
  input.policy_logits.set_requires_grad(true);
  token_reference_kl(input.policy_logits, input.reference_logits,
                     input.mask.bitwise_and(input.held.unsqueeze(-1)))
      .sum()
      .backward();
  EXPECT_LT(distance(input.policy_logits.grad(), expected), 1e-12);
}

// The row kernel against two softmaxes: rows of every length up to several lanes, strided, masked, of each
// type.
TEST(Hold, GradientOfEveryTypeAndLength) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const int64_t vocabulary : {1, 2, 31, 32, 33, 100, 5000}) {
      const at::Tensor wide = (at::randn({3, 5, vocabulary}) * 3).to(type),
                       reference = (at::randn({3, 4, vocabulary}) * 3).to(type);
      const at::Tensor policy = wide.narrow(1, 1, 4).detach().set_requires_grad(true);
      const at::Tensor mask = at::arange(12, at::kLong).view({3, 4}).remainder(5).ne(0),
                       upstream = at::randn({3, 4});
      const at::Tensor kl = token_reference_kl(policy, reference, mask);
      (kl * upstream.to(kl.scalar_type())).sum().backward();
      const at::Tensor expected =
          (at::softmax(policy.detach().to(at::kDouble), -1) - at::softmax(reference.to(at::kDouble), -1)) *
          (upstream * mask).to(at::kDouble).unsqueeze(-1);
      const double tolerance = type == at::kDouble ? 1e-13 : type == at::kFloat ? 2e-6 : 2e-2;
      EXPECT_LT(distance(policy.grad(), expected), tolerance) << type << " " << vocabulary;
    }
}

TEST(Hold, BehaviorCloningCanHaveOne) {
  const ObjectiveInput input = random_batch();
  for (const ObjectiveType type : {ObjectiveType::sft, ObjectiveType::weighted_bc}) {
    const ObjectiveOutput plain = apo_loss(input, {.type = type});
    const ObjectiveOutput held = apo_loss(input, {.type = type, .reference_kl_weight = 0.5});
    EXPECT_NEAR(number(held.loss), number(plain.loss) + 0.5 * number(held.reference_kl), 1e-12);
    EXPECT_GT(number(held.reference_kl), 0.1);
  }
}

TEST(Hold, StandsBesideOnePair) {
  ObjectiveInput input = random_batch();
  input.pair = at::tensor({0, -1, 0, 1, -1, 1}, at::kLong);  // two pairs
  for (const ObjectiveType type : {ObjectiveType::dpo, ObjectiveType::tpo})
    for (const auto& [reduction, pairs] : {std::pair{Reduction::mean, 1.0}, std::pair{Reduction::sum, 2.0}}) {
      const ObjectiveOutput plain = apo_loss(input, {.type = type, .reduction = reduction});
      const ObjectiveOutput held =
          apo_loss(input, {.type = type, .reduction = reduction, .reference_kl_weight = 0.5});
      EXPECT_NEAR(number(held.loss), number(plain.loss) + pairs * 0.5 * number(held.reference_kl), 1e-12);
      EXPECT_GT(number(held.reference_kl), 0.1);
    }
}

}  // namespace
}  // namespace apo::objective
