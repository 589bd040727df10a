// How much each sample counts: docs/objective.md, "Weights".
#include "apo/objective/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "objective/batch.h"

namespace apo::objective {
namespace {

using testing::distance;
using testing::leaf;
using testing::number;
using testing::random_batch;

// The published loss, whose weights add up to one in the batch as it is.
const ObjectiveOptions kPaper{.preset = Preset::paper, .weights = {.group_size = 0}};

ObjectiveOptions paper_with(WeightOptions weights) {
  ObjectiveOptions options = kPaper;
  weights.group_size = 0;
  options.weights = weights;
  return options;
}

TEST(Weights, AddUpToOneInTheirGroupAndLambdaIsAFraction) {
  const ObjectiveInput input = random_batch({.samples = 12});
  for (const auto type : {WeightType::adaptive, WeightType::uniform}) {
    const ObjectiveOutput out = apo_loss(input, paper_with({.type = type}));
    EXPECT_NEAR(number(out.weight.masked_select(input.desirable).sum()), 1, 1e-12);
    EXPECT_NEAR(number(out.weight.masked_select(input.desirable.logical_not()).sum()), 1, 1e-12);
    EXPECT_GE(number(out.lambda.min()), 0);
    EXPECT_LE(number(out.lambda.max()), 1);
  }
}

// 32 samples are four times the same 8: with groups of 8 each weighs what it weighs among its 8, and the
// whole batch is the four evaluated alone.
TEST(Weights, OfGroupsAreThoseOfEqualGroupsEvaluatedAlone) {
  const ObjectiveInput eight = random_batch({.samples = 8});
  const ObjectiveInput batch = testing::transformed(eight, [](const at::Tensor& tensor) {
    return at::cat({tensor, tensor, tensor, tensor});
  });
  for (const auto preset : {Preset::paper, Preset::robust})
    for (const auto reduction : {Reduction::sum, Reduction::mean}) {
      const ObjectiveOptions options{.preset = preset, .weights = {.group_size = 8}, .reduction = reduction};
      ObjectiveOptions alone = options;
      alone.weights.group_size = 0;
      ObjectiveInput whole = batch, part = eight;
      whole.policy_logits = leaf(whole.policy_logits), part.policy_logits = leaf(part.policy_logits);
      const ObjectiveOutput a = apo_loss(whole, options), b = apo_loss(part, alone);
      EXPECT_LT(distance(a.weight, b.weight.repeat({4})), 1e-14);
      EXPECT_LT(distance(a.lambda, b.lambda.repeat({4})), 1e-14);
      EXPECT_NEAR(number(a.lambda_undesirable / a.lambda_desirable),
                  number(b.lambda_undesirable / b.lambda_desirable), 1e-12);
      const double times = reduction == Reduction::sum ? 4 : 1;
      EXPECT_NEAR(number(a.loss), times * number(b.loss), 1e-12);
      a.loss.backward(), b.loss.backward();
      EXPECT_LT(distance(whole.policy_logits.grad().slice(0, 8, 16), part.policy_logits.grad() * (times / 4)),
                1e-13);
    }
}

TEST(Weights, OfGroupsAreScaledByTheSamplesInAGroup) {
  const ObjectiveInput input = random_batch({.samples = 12});
  const ObjectiveOutput whole = apo_loss(input, kPaper);
  for (const int64_t size : {3, 8, 12, 100}) {
    const ObjectiveOutput out = apo_loss(input, {.weights = {.group_size = size}});
    EXPECT_LT(distance(out.weight, whole.weight * (12.0 / static_cast<double>(size))), 1e-12) << size;
  }
  // neither a mean over the group nor the released code has groups of its own
  for (ObjectiveOptions options : {ObjectiveOptions{.weights = {.normalization = WeightNormalization::mean}},
                                   ObjectiveOptions{.compatibility = Compatibility::released_code},
                                   ObjectiveOptions{.type = ObjectiveType::kto}}) {
    const ObjectiveOutput eight = apo_loss(input, options);
    options.weights.group_size = 0;
    EXPECT_EQ(number(apo_loss(input, options).loss), number(eight.loss));
  }
}

// What section 1 of the measurements on the tabletop tabulates: 1.3 in the authors' 8, 7.2 in 32, 11.2 in 48.
TEST(Weights, ExpectedBalanceIsThatOfEqualErrors) {
  ObjectiveOptions options = kPaper;
  EXPECT_NEAR(expected_balance(options, 6, 2), 1.317, 1e-3);
  EXPECT_NEAR(expected_balance(options, 24, 8), 7.208, 1e-3);
  EXPECT_NEAR(expected_balance(options, 36, 12), 11.20, 1e-2);
  options.weights.group_size = 8;
  for (const int64_t groups : {1, 4, 6})
    EXPECT_NEAR(expected_balance(options, 6 * groups, 2 * groups), 1.317, 1e-3);
  EXPECT_NEAR(expected_balance({.compatibility = Compatibility::released_code}, 24, 8), 7.208, 1e-3);
  EXPECT_NEAR(expected_balance({.type = ObjectiveType::kto}, 36, 12), 1.0 / 3, 1e-12);
  EXPECT_TRUE(std::isnan(expected_balance({}, 8, 0)));
  EXPECT_TRUE(std::isnan(expected_balance({}, 0, 8)));
  EXPECT_TRUE(std::isnan(expected_balance({.type = ObjectiveType::dpo}, 6, 2)));
  // and what a batch of equal errors has
  ObjectiveInput input = random_batch({.samples = 12});
  input.action_l1.fill_(0.25);
  for (const auto normalization : {WeightNormalization::sum, WeightNormalization::mean})
    for (const int64_t size : {0, 5, 8}) {
      const ObjectiveOptions any{
          .weights = {
              .normalization = normalization, .group_size = size, .eta_desirable = 2, .eta_undesirable = 3}};
      const ObjectiveOutput out = apo_loss(input, any);
      EXPECT_NEAR(expected_balance(any, 8, 4), number(out.lambda_undesirable / out.lambda_desirable), 1e-12);
    }
}

TEST(Weights, FollowTheActionError) {
  // desirable l = 0.1, 0.3: w = 1/4, 3/4; undesirable l = 0.2, 0.2: w = 1/2, 1/2
  ObjectiveInput input = random_batch({.samples = 4});
  input.action_l1 = at::tensor({0.1, 0.2, 0.3, 0.2}, at::kDouble);
  input.desirable = at::tensor({1, 0, 1, 0}, at::kLong).to(at::kBool);
  const ObjectiveOutput sum = apo_loss(input, paper_with({.eta_desirable = 2.0, .eta_undesirable = 3.0}));
  EXPECT_LT(distance(sum.weight, at::tensor({0.25, 0.5, 0.75, 0.5}, at::kDouble)), 1e-12);
  EXPECT_LT(distance(sum.lambda,
                     at::tensor({1 - std::exp(-0.5), std::exp(-1.5), 1 - std::exp(-1.5), std::exp(-1.5)},
                                at::kDouble)),
            1e-12);
  EXPECT_NEAR(number(sum.lambda_desirable), 2 - std::exp(-0.5) - std::exp(-1.5), 1e-12);
  EXPECT_NEAR(number(sum.lambda_undesirable), 2 * std::exp(-1.5), 1e-12);
  // mean: scaled by the group's size, 2
  const ObjectiveOutput mean = apo_loss(input, {.weights = {.normalization = WeightNormalization::mean}});
  EXPECT_LT(distance(mean.weight, at::tensor({0.5, 1.0, 1.5, 1.0}, at::kDouble)), 1e-12);
  EXPECT_NEAR(number(mean.lambda[1]), std::exp(-1.0), 1e-12);
  // uniform: lambda = 1
  const ObjectiveOutput uniform = apo_loss(input, {.weights = {.type = WeightType::uniform}});
  EXPECT_EQ(number(uniform.lambda.min()), 1);
  EXPECT_LT(distance(uniform.weight, at::full({4}, 0.5, at::kDouble)), 1e-12);
}

TEST(Weights, NoErrorAtAllMeansEqualWeights) {
  ObjectiveInput input = random_batch({.samples = 6});  // 4 desirable, 2 undesirable
  input.action_l1.zero_();
  EXPECT_LT(distance(apo_loss(input, kPaper).weight, at::where(input.desirable, 0.25, 0.5)), 1e-12);
  // six of a group of eight
  EXPECT_LT(distance(apo_loss(input, {}).weight, at::where(input.desirable, 0.25, 0.5) * 0.75), 1e-12);
}

TEST(Weights, TinyErrorsKeepTheirPrecision) {
  // lambda_D = 1 - exp(-1e-10) = 1e-10; written as a difference it would be off by 1e-7 of itself
  ObjectiveInput input = random_batch({.samples = 2});
  input.desirable.fill_(true);
  input.action_l1 = at::tensor({1e-10, 1.0}, at::kDouble);
  EXPECT_NEAR(number(apo_loss(input, kPaper).lambda[0]) / 1e-10, 1, 1e-9);
}

TEST(ReleasedCode, WeightsHaveTheirEpsilon) {
  // desirable l = 0 and 0: (0 + 1e-4) / (0 + 1e-4) = 1 each; undesirable l = 0.1: 1
  ObjectiveInput input = random_batch({.samples = 3});
  input.action_l1 = at::tensor({0.0, 0.0, 0.1}, at::kDouble);
  const ObjectiveOutput out = apo_loss(input, {.compatibility = Compatibility::released_code});
  EXPECT_LT(distance(out.weight, at::ones({3})), 1e-12);
}

}  // namespace
}  // namespace apo::objective
