// The objective's laws, one promise a test; docs/objective.md has the formulas.
#include "apo/objective/objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <cmath>

#include "objective/batch.h"
#include "objective/pencil_batch.h"

namespace apo::objective {
namespace {

using testing::all_estimators;
using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::kept_of;
using testing::kPaper;
using testing::leaf;
using testing::loss_with;
using testing::message_of;
using testing::number;
using testing::pencil_batch;
using testing::random_batch;
using testing::score_with;

// Shapes of `where`, the one operation used here that the library lacks on the meta device.
at::Tensor where_on_meta(const at::Tensor& condition, const at::Tensor& a, const at::Tensor& b) {
  return at::empty(at::broadcast_tensors({condition, a, b})[0].sizes(),
                   a.options().dtype(at::result_type(a, b)));
}
TORCH_LIBRARY_IMPL(aten, Meta, library) { library.impl("where.self", TORCH_FN(where_on_meta)); }

TEST(Objective, ByHand) {
  // r_A = ln(3/4) - ln(1/2) + ln(1/2) - ln(1/4) = ln 3;   r_B = ln(3/4) - ln(1/2) + 0 = ln(3/2)
  // z0: A's logits with B's tokens (1, 1): ln(1/4) - ln(1/2) + ln(1/2) - ln(1/4) = 0
  //     B's logits with A's tokens (0, 1): ln(1/4) - ln(1/2) + 0 = -ln 2          -> z0 = -(ln 2) / 2
  // each alone in its group: w = 1, lambda_D = 1 - 1/e = 0.632120559, lambda_U = 1/e = 0.367879441
  // beta = 1: 1 - v_A = sigma(-(ln 3 + ln 2 / 2)) = 1 / (1 + 3 sqrt 2) = 0.190743
  //           1 - v_B = sigma(ln(3/2) + ln 2 / 2) = 1.5 sqrt 2 / (1 + 1.5 sqrt 2) = 0.679623
  // L = 0.632120559 * 0.190743 + 0.367879441 * 0.679623 = 0.120573 + 0.250019 = 0.370592
  ObjectiveInput input = pencil_batch();
  input.policy_logits.set_requires_grad(true);
  ObjectiveOptions options = kPaper;
  options.beta = 1.0;
  const ObjectiveOutput out = apo_loss(input, options);
  const double loss_a = 1 / (1 + 3 * std::sqrt(2.0)),
               loss_b = 1.5 * std::sqrt(2.0) / (1 + 1.5 * std::sqrt(2.0));
  const double lambda_a = 1 - std::exp(-1.0), lambda_b = std::exp(-1.0);
  EXPECT_NEAR(number(out.reward[0]), std::log(3.0), 1e-12);
  EXPECT_NEAR(number(out.reward[1]), std::log(1.5), 1e-12);
  EXPECT_NEAR(number(out.z0), -std::log(2.0) / 2, 1e-12);
  EXPECT_NEAR(number(out.log_prob[0]), std::log(3.0 / 8), 1e-12);
  EXPECT_NEAR(number(out.reference_log_prob[0]), std::log(1.0 / 8), 1e-12);
  EXPECT_NEAR(number(out.sample_loss[0]), loss_a, 1e-12);
  EXPECT_NEAR(number(out.sample_loss[1]), loss_b, 1e-12);
  EXPECT_NEAR(number(out.lambda[0]), lambda_a, 1e-12);
  EXPECT_NEAR(number(out.lambda[1]), lambda_b, 1e-12);
  EXPECT_NEAR(number(out.loss), 0.370592, 1e-6);
  EXPECT_NEAR(number(out.loss), lambda_a * loss_a + lambda_b * loss_b, 1e-12);
  // standard error of z0 from the two samples' terms 0 and -ln 2: their spread is ln 2 / sqrt 2, over sqrt 2
  EXPECT_NEAR(number(out.z0_standard_error), std::log(2.0) / 2, 1e-12);
  // dL/dr_A = -lambda s (1 - s), dL/dr_B = +lambda s (1 - s); dr_A/dlogit(A, 0, 0) = 1 - 3/4, dr_B/dlogit(B,
  // 0, 0) = -1/4
  out.loss.backward();
  EXPECT_NEAR(number(input.policy_logits.grad()[0][0][0]), -lambda_a * loss_a * (1 - loss_a) / 4, 1e-12);
  EXPECT_NEAR(number(input.policy_logits.grad()[1][0][0]), -lambda_b * loss_b * (1 - loss_b) / 4, 1e-12);
}

TEST(Objective, PolicyEqualToReferenceGivesExactlyOneHalf) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const auto kind : {ObjectiveType::apo, ObjectiveType::kto})
      for (const auto compatibility : {Compatibility::paper, Compatibility::released_code})
        for (const auto z0 : all_estimators()) {
          ObjectiveInput input = random_batch({.vocabulary = 301, .type = type});
          input.reference_logits = input.policy_logits.clone();
          input.mismatched_reference_logits = input.mismatched_policy_logits.clone();
          const ObjectiveOutput out = apo_loss(
              input, {.type = kind, .z0 = z0, .compatibility = compatibility, .label_smoothing_bins = 1.0});
          EXPECT_EQ(number(out.reward.abs().max()), 0);
          EXPECT_EQ(number(out.z0), 0);
          EXPECT_EQ(number(out.z0_unclamped), 0);
          EXPECT_FALSE(number(out.z0_clamped));
          EXPECT_TRUE(at::equal(out.sample_loss, at::full_like(out.sample_loss, 0.5)));
        }
}

TEST(Objective, GradientRaisesDesirableAndLowersUndesirableTokens) {
  const ObjectiveInput input = random_batch();
  for (const auto kind : {ObjectiveType::apo, ObjectiveType::kto}) {
    ObjectiveInput x = input;
    x.policy_logits = leaf(input.policy_logits);
    apo_loss(x, {.type = kind}).loss.backward();
    const at::Tensor at_token = x.policy_logits.grad().gather(-1, input.tokens.unsqueeze(-1)).squeeze(-1);
    for (int64_t i = 0; i < 6; ++i) {
      const double g = number(at_token[i][0]);
      if (number(input.desirable[i])) {
        EXPECT_LT(g, 0) << i;  // descending raises the logit
      } else {
        EXPECT_GT(g, 0) << i;
      }
    }
  }
}

TEST(Z0, UsesTheNeighboursLabels) {
  // rolling inside equals the trainer's rolling; another pairing does not
  const ObjectiveInput given = random_batch();
  ObjectiveInput rolled = given, wrong = given;
  rolled.mismatched_tokens = rolled.mismatched_mask = rolled.mismatched_end_token = at::Tensor();
  wrong.mismatched_tokens = given.tokens.roll(1, 0);
  const double z0 = number(apo_loss(given, {}).z0_unclamped);
  EXPECT_EQ(number(apo_loss(rolled, {}).z0_unclamped), z0);
  EXPECT_NE(number(apo_loss(wrong, {}).z0_unclamped), z0);
}

TEST(Z0, EstimatorsByHand) {
  const ObjectiveInput input = pencil_batch();
  // exact: A: KL((3/4, 1/4) | (1/2, 1/2)) + KL((1/2, 1/2) | (3/4, 1/4)) = 0.13081204 + 0.14384104; B:
  // 0.13081204
  EXPECT_NEAR(number(apo_loss(input, {.z0 = Z0Estimator::exact}).z0), (2 * 0.13081204 + 0.14384104) / 2,
              1e-8);
  EXPECT_EQ(number(apo_loss(input, {.z0 = Z0Estimator::none}).z0), 0);
  // mismatched: its own logits; here uniform policy (1/2) against p_ref = (3/4, 1/4) everywhere.
  // tokens A' = (1, 1): 2 (ln 1/2 - ln 1/4) = 2 ln 2;  B' = (0, 1): ln(2/3) + ln 2 = ln(4/3)
  ObjectiveInput mismatched = input;
  mismatched.mismatched_tokens = input.tokens.roll(-1, 0);
  mismatched.mismatched_policy_logits = at::zeros({2, 2, 2}, at::kDouble);
  mismatched.mismatched_reference_logits =
      at::tensor({std::log(3.0), 0.0}, at::kDouble).expand({2, 2, 2}).contiguous();
  EXPECT_NEAR(number(apo_loss(mismatched, {.z0 = Z0Estimator::mismatched}).z0),
              (2 * std::log(2.0) + std::log(4.0 / 3)) / 2, 1e-12);
}

TEST(Z0, IsClampedAndSaysSo) {
  ObjectiveInput input = pencil_batch();  // z0 = -(ln 2) / 2 = -0.3466
  const ObjectiveOutput low = apo_loss(input, {.kl_min = -0.1});
  EXPECT_DOUBLE_EQ(number(low.z0), -0.1);
  EXPECT_NEAR(number(low.z0_unclamped), -std::log(2.0) / 2, 1e-12);
  EXPECT_TRUE(number(low.z0_clamped));
  EXPECT_DOUBLE_EQ(number(apo_loss(input, {.kl_max = -1.0}).z0), -1.0);
  EXPECT_FALSE(number(apo_loss(input, {}).z0_clamped));
  // kto: never below zero, whatever kl_min says; no upper clamp
  EXPECT_EQ(number(apo_loss(input, {.type = ObjectiveType::kto}).z0), 0);
  EXPECT_GT(number(apo_loss(input, {.type = ObjectiveType::kto, .z0 = Z0Estimator::exact, .kl_max = 0.0}).z0),
            0.1);
}

// Statistics and loss may be read apart, as micro-batches do, or in one reading.
TEST(Z0, OneReadingEqualsTwo) {
  const ObjectiveInput input = random_batch({.vocabulary = 67, .type = at::kFloat});
  for (const auto z0 : all_estimators())
    for (const auto compatibility : {Compatibility::paper, Compatibility::released_code}) {
      const ObjectiveOptions options{.z0 = z0, .compatibility = compatibility, .label_smoothing_bins = 2.0};
      const ScoredBatch both = score(input, options), statistics = score(input, options, {.loss = false}),
                        loss = score(input, options, {.statistics = false});
      ASSERT_EQ(both.scores.z0_terms.defined(), z0 != Z0Estimator::none);
      EXPECT_FALSE(loss.scores.z0_terms.defined());
      EXPECT_FALSE(statistics.scores.policy.defined());
      if (both.scores.z0_terms.defined()) {
        EXPECT_TRUE(at::equal(both.scores.z0_terms, statistics.scores.z0_terms));
      }
      EXPECT_TRUE(at::equal(both.scores.policy, loss.scores.policy));
      EXPECT_TRUE(at::equal(measure(both).sums, measure(statistics).sums));
    }
}

TEST(Z0, TheExactOneIsNeverNegative) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    ObjectiveInput input = random_batch({.type = at::kFloat, .seed = seed});
    input.reference_logits = input.policy_logits + 1e-4 * input.reference_logits;
    EXPECT_GE(number(apo_loss(input, {.z0 = Z0Estimator::exact}).z0), 0);
  }
}

TEST(ReleasedCode, LeavesTheEndTokenOutOfUndesirableRewardsAndOfZ0) {
  const ObjectiveInput input = random_batch();
  ObjectiveInput other_end = input;
  other_end.policy_logits = input.policy_logits.clone();
  other_end.policy_logits.select(1, 3) =
      at::randn({6, 11}, at::kDouble);  // only the end token's logits differ
  for (const auto z0 : {Z0Estimator::shifted_labels, Z0Estimator::exact}) {
    const ObjectiveOptions options{.z0 = z0, .compatibility = Compatibility::released_code};
    const ObjectiveOutput a = apo_loss(input, options), b = apo_loss(other_end, options);
    EXPECT_EQ(number(a.z0_unclamped), number(b.z0_unclamped));
    const at::Tensor same = a.reward.eq(b.reward);
    EXPECT_TRUE(at::equal(same, input.desirable.logical_not()));
    // the paper's rewards and baseline contain it
    const ObjectiveOutput c = apo_loss(input, {.z0 = z0}), d = apo_loss(other_end, {.z0 = z0});
    EXPECT_NE(number(c.z0_unclamped), number(d.z0_unclamped));
    EXPECT_FALSE(number(c.reward.eq(d.reward).any()));
  }
}

TEST(Reduction, MeanDividesByTheNumberOfSamples) {
  const ObjectiveInput input = random_batch();
  const double sum = number(apo_loss(input, kPaper).loss);
  ObjectiveOptions mean = kPaper;
  mean.reduction = Reduction::mean;
  EXPECT_NEAR(number(apo_loss(input, mean).loss), sum / 6, 1e-12);
}

TEST(Anchor, AddsTheMeanCrossEntropyOfDesirableSamplesBesideOneSamplesLoss) {
  const ObjectiveInput input = random_batch();
  const ObjectiveOutput plain = apo_loss(input, {.preset = Preset::paper});
  // mean over the unmasked tokens of samples 0, 1, 3, 4: 4 * 4 - 1 masked
  const at::Tensor good = plain.log_prob.masked_select(input.desirable);
  const double cross_entropy = -number(good.sum()) / 15;
  EXPECT_FALSE(plain.sft_loss.defined());
  for (const auto& [reduction, samples] : {std::pair{Reduction::mean, 1.0}, std::pair{Reduction::sum, 6.0}}) {
    const ObjectiveOutput anchored =
        apo_loss(input, {.reduction = reduction, .sft_weight = 0.25, .reference_kl_weight = 0});
    EXPECT_NEAR(number(anchored.loss), samples * (number(plain.loss) / 6 + 0.25 * cross_entropy), 1e-12);
    EXPECT_NEAR(number(anchored.sft_loss), cross_entropy, 1e-12);
  }
  // the default
  const ObjectiveOutput robust = apo_loss(input);
  EXPECT_NEAR(number(robust.loss), number(plain.loss) / 6 + cross_entropy + 3 * number(robust.reference_kl),
              1e-12);
}

TEST(Sft, IsTheMeanCrossEntropyOfDesirableSamples) {
  ObjectiveInput input = random_batch();
  input.reference_logits = input.action_l1 = at::Tensor();
  const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::sft});
  EXPECT_NEAR(number(out.loss), -number(out.log_prob.masked_select(input.desirable).sum()) / 15, 1e-12);
  EXPECT_NEAR(number(out.weight.sum()), 1, 1e-12);
  EXPECT_FALSE(out.reward.defined());
  // sample 0 has 3 unmasked tokens
  EXPECT_NEAR(number(out.sample_loss[0]), -number(out.log_prob[0]) / 3, 1e-12);
  // without labels every sample is imitated
  input.desirable = at::Tensor();
  const ObjectiveOutput all = apo_loss(input, {.type = ObjectiveType::sft});
  EXPECT_NEAR(number(all.loss), -number(all.log_prob.sum()) / 23, 1e-12);
}

TEST(WeightedBc, WeighsEachSamplesTokens) {
  ObjectiveInput input = random_batch({.samples = 3});
  input.mask.fill_(true);
  input.sample_weight = at::tensor({2.0, 0.0, 1.0}, at::kFloat);
  input.policy_logits[1] = std::nan("");  // weight 0: leaves no trace
  const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::weighted_bc});
  EXPECT_NEAR(number(out.loss), -(2 * number(out.log_prob[0]) + number(out.log_prob[2])) / 12, 1e-12);
}

TEST(Credit, PushesDownOnlyWhatTheHumanChanged) {
  ObjectiveInput input = random_batch();
  input.dimension_credit.zero_();
  input.dimension_credit[2][1] = 0.5;  // sample 2 is undesirable
  input.policy_logits.set_requires_grad(true);
  const ObjectiveOutput out = apo_loss(input, {.credit = Credit::dimension});
  const at::Tensor ratio = out.token_log_probs - out.reference_token_log_probs;
  EXPECT_NEAR(number(out.reward[2]), 0.5 * number(ratio[2][1]), 1e-12);
  EXPECT_EQ(number(out.reward[5]), 0);
  EXPECT_NEAR(number(out.reward[0]), number(ratio[0].sum()), 1e-12);  // desirable: all tokens
  out.loss.backward();
  const at::Tensor gradient = input.policy_logits.grad().abs().sum(-1);
  EXPECT_GT(number(gradient[2][1]), 0);
  EXPECT_EQ(number(gradient[2][0]), 0);
  // with `credit: sample`, or without credits, all count
  EXPECT_NEAR(number(apo_loss(input, {}).reward[2]), number(ratio[2].sum()), 1e-12);
  input.dimension_credit = at::Tensor();
  EXPECT_NEAR(number(apo_loss(input, {.credit = Credit::dimension}).reward[2]), number(ratio[2].sum()),
              1e-12);
}

TEST(LabelSmoothing, ActsOnRewardsAndCrossEntropyButNotOnTheEndToken) {
  const ObjectiveInput input = random_batch();
  const ObjectiveOutput hard = apo_loss(input, {.sft_weight = 1.0});
  const ObjectiveOutput smooth = apo_loss(input, {.sft_weight = 1.0, .label_smoothing_bins = 2.0});
  EXPECT_TRUE(at::equal(hard.token_log_probs.select(1, 3), smooth.token_log_probs.select(1, 3)));
  EXPECT_FALSE(number(hard.token_log_probs.select(1, 0).eq(smooth.token_log_probs.select(1, 0)).any()));
  EXPECT_FALSE(number(hard.reward.eq(smooth.reward).any()));
  EXPECT_NE(number(hard.sft_loss), number(smooth.sft_loss));
  EXPECT_NE(number(hard.z0), number(smooth.z0));
}

TEST(Objective, EmptyAndSingleSampleGroupsAreFinite) {
  for (const auto kind : {ObjectiveType::apo, ObjectiveType::kto, ObjectiveType::sft})
    for (const int64_t batch : {0, 1, 3})
      for (const bool desirable : {true, false})
        for (const auto z0 : all_estimators()) {
          ObjectiveInput input = random_batch({.samples = batch, .tokens = 2});
          input.desirable.fill_(desirable);
          input.policy_logits.set_requires_grad(true);
          const ObjectiveOutput out = apo_loss(input, {.type = kind, .z0 = z0, .sft_weight = 0.5});
          out.loss.backward();
          EXPECT_TRUE(std::isfinite(number(out.loss)));
          EXPECT_TRUE(number(at::isfinite(input.policy_logits.grad()).all()));
          EXPECT_TRUE(number(at::isfinite(out.weight).all()));
          if (kind != ObjectiveType::sft) {
            EXPECT_TRUE(std::isfinite(number(out.z0_standard_error)));
          }
        }
}

TEST(Objective, EnormousRewardsAreFinite) {
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const double size : {1e4, -1e4}) {
      ObjectiveInput input = random_batch({.type = type});
      input.mask.fill_(true);
      const at::Tensor at_token =
          at::zeros_like(input.policy_logits).scatter(-1, input.tokens.unsqueeze(-1), size);
      input.policy_logits = leaf(at_token);
      input.reference_logits = -at_token;
      const ObjectiveOutput out = apo_loss(input, {.sft_weight = 1.0});
      EXPECT_GE(number(out.reward.abs().min()), 1e4);
      out.loss.backward();
      EXPECT_TRUE(std::isfinite(number(out.loss)));
      EXPECT_TRUE(number(at::isfinite(input.policy_logits.grad()).all()));
    }
}

TEST(Objective, SmallLossesKeepTheirPrecision) {
  // beta (r - z0) = 40: 1 - v = e^-40; as a difference it would be exactly 0 in float32
  ObjectiveInput input = random_batch({.samples = 1, .tokens = 1, .vocabulary = 5, .type = at::kFloat});
  input.tokens.fill_(2), input.mask.fill_(true), input.desirable.fill_(true);
  input.policy_logits.zero_(), input.reference_logits.zero_();
  input.reference_logits.select(-1, 2).fill_(-40.0);
  const double reward = number(apo_loss(input, {.z0 = Z0Estimator::none}).reward[0]);
  const double loss = number(apo_loss(input, {.beta = 1.0, .z0 = Z0Estimator::none}).sample_loss[0]);
  EXPECT_NEAR(loss / std::exp(-reward), 1, 1e-5);
}

TEST(Objective, MaskedPositionsChangeNothing) {
  const ObjectiveInput clean = random_batch();
  ObjectiveInput poisoned = clean;
  poisoned.policy_logits = clean.policy_logits.clone(),
  poisoned.reference_logits = clean.reference_logits.clone();
  poisoned.policy_logits[0][1] = std::nan("");
  poisoned.reference_logits[0][1] = std::nan("");
  poisoned.tokens = clean.tokens.clone();
  poisoned.tokens[0][1] = -100;
  for (const auto z0 : {Z0Estimator::shifted_labels, Z0Estimator::exact}) {
    ObjectiveInput a = clean, b = poisoned;
    a.policy_logits = leaf(clean.policy_logits), b.policy_logits = leaf(poisoned.policy_logits);
    const ObjectiveOptions options{.z0 = z0, .sft_weight = 0.5};
    const at::Tensor loss_a = apo_loss(a, options).loss, loss_b = apo_loss(b, options).loss;
    EXPECT_EQ(number(loss_a), number(loss_b));
    loss_a.backward(), loss_b.backward();
    EXPECT_TRUE(at::equal(a.policy_logits.grad(), b.policy_logits.grad()));
  }
}

TEST(Objective, GradientFlowsToThePolicyAlone) {
  for (const auto z0 : all_estimators()) {
    ObjectiveInput input = random_batch();
    for (at::Tensor* tensor :
         {&input.policy_logits, &input.reference_logits, &input.action_l1, &input.dimension_credit,
          &input.mismatched_policy_logits, &input.mismatched_reference_logits})
      *tensor = leaf(*tensor);
    const ObjectiveOptions options{.z0 = z0, .sft_weight = 0.5, .credit = Credit::dimension};
    const BatchStatistics whole = measure(input, options);
    EXPECT_FALSE(whole.sums.requires_grad());
    const ObjectiveOutput out = apo_loss(input, options);
    for (const at::Tensor& tensor :
         {out.reward, out.weight, out.lambda, out.sample_loss, out.z0, out.log_prob})
      EXPECT_FALSE(tensor.requires_grad());
    out.loss.backward();
    EXPECT_TRUE(input.policy_logits.grad().defined());
    for (const at::Tensor& tensor : {input.reference_logits, input.action_l1, input.dimension_credit,
                                     input.mismatched_policy_logits, input.mismatched_reference_logits})
      EXPECT_FALSE(tensor.grad().defined());
  }
}

TEST(Objective, ReferenceScoresOfTheCallersOwnAreConstantsToo) {
  const ObjectiveInput input = random_batch();
  ScoredBatch scored = score(input, {});
  scored.scores.reference = leaf(scored.scores.reference);
  scored.scores.policy = leaf(scored.scores.policy);
  evaluate(scored, measure(input, {})).loss.backward();
  EXPECT_TRUE(scored.scores.policy.grad().defined());
  EXPECT_FALSE(scored.scores.reference.grad().defined());
}

// What is kept of a reference stands for its logits: same loss, same gradient, whatever z0 reads of it.
TEST(Objective, KeptReferenceLogProbsEqualItsLogits) {
  for (const Z0Estimator z0 : {Z0Estimator::shifted_labels, Z0Estimator::mismatched, Z0Estimator::none})
    for (const Compatibility compatibility : {Compatibility::paper, Compatibility::released_code}) {
      if (compatibility == Compatibility::released_code && z0 != Z0Estimator::shifted_labels) continue;
      const ObjectiveOptions options{.z0 = z0, .compatibility = compatibility, .reference_kl_weight = 0};
      ObjectiveInput with_logits = random_batch();
      with_logits.policy_logits.set_requires_grad(true);
      const ObjectiveOutput expected = apo_loss(with_logits, options);
      expected.loss.backward();

      const ReferenceScores kept = kept_of(with_logits, options);
      EXPECT_EQ(kept.mismatched.defined(), z0 != Z0Estimator::none);
      EXPECT_FALSE(kept.logits.defined());
      ObjectiveInput without = random_batch();
      without.policy_logits.set_requires_grad(true);
      const ObjectiveOutput found = loss_with(kept, without, options);
      found.loss.backward();
      EXPECT_NEAR(number(found.loss), number(expected.loss), 1e-12);
      EXPECT_NEAR(number(found.z0), number(expected.z0), 1e-12);
      EXPECT_LT(distance(found.reward, expected.reward), 1e-12);
      EXPECT_LT(distance(without.policy_logits.grad(), with_logits.policy_logits.grad()), 1e-12);
      // and through the statistics of parts, as micro-batches have them
      const BatchStatistics whole = measure(score_with(kept, without, options, {.loss = false}));
      EXPECT_NEAR(number(evaluate(score_with(kept, without, options, {.statistics = false}), whole).loss),
                  number(expected.loss), 1e-12);
    }
}

TEST(Objective, KeptReferenceLogProbsKnowNoWholeDistribution) {
  const ObjectiveInput input = random_batch();
  ReferenceScores kept{.tokens = at::zeros_like(input.tokens, at::kDouble)};
  EXPECT_THAT(message_of<ConfigError>([&] { loss_with(kept, input, {.z0 = Z0Estimator::exact}); }),
              AllOf(HasSubstr("objective.z0"), HasSubstr("shifted-labels, mismatched or none")));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { loss_with(kept, input, {.z0 = Z0Estimator::none, .reference_kl_weight = 0.1}); }),
              AllOf(HasSubstr("objective.reference_kl_weight"), HasSubstr("expected 0, found 0.1")));
  kept.tokens = at::zeros({1, 1}, at::kDouble);
  EXPECT_THAT(message_of<RunError>(
                  [&] { loss_with(kept, input, {.z0 = Z0Estimator::none, .reference_kl_weight = 0}); }),
              HasSubstr("reference_token_log_probs"));
  // the next sample's alone are not enough
  kept = {.mismatched = at::zeros_like(input.tokens, at::kDouble)};
  EXPECT_THAT(message_of<RunError>([&] { loss_with(kept, input, {.z0 = Z0Estimator::mismatched}); }),
              AllOf(HasSubstr("reference_token_log_probs"), HasSubstr("found nothing")));
}

// Whatever is kept at positions that do not count, it reaches nothing.
TEST(Objective, KeptReferenceLogProbsAreReadWhereTokensCount) {
  for (const Z0Estimator z0 : {Z0Estimator::shifted_labels, Z0Estimator::mismatched}) {
    const ObjectiveInput input = random_batch();
    const ObjectiveOptions options{.z0 = z0, .reference_kl_weight = 0};
    ReferenceScores kept = kept_of(input, options);
    const ObjectiveOutput expected = loss_with(kept, input, options);
    ASSERT_FALSE(input.mask.all().item<bool>());
    const double nan = std::nan("");
    kept.tokens = kept.tokens.masked_fill(input.mask.bitwise_not(), nan);
    kept.mismatched =
        kept.mismatched.masked_fill(input.mismatched_mask.bitwise_and(input.mask).bitwise_not(), nan);
    const ObjectiveOutput found = loss_with(kept, input, options);
    EXPECT_EQ(number(found.loss), number(expected.loss));
    EXPECT_EQ(number(found.z0), number(expected.z0));
  }
}

TEST(Objective, RefusesWeightsOutsideTheirRange) {
  ObjectiveInput input = random_batch();
  input.action_l1 = at::full_like(input.action_l1, 0.5).index_fill(0, at::tensor({1}, at::kLong), -0.25);
  EXPECT_THAT(message_of<RunError>([&] { apo_loss(input, {}); }),
              AllOf(HasSubstr("action_l1"), HasSubstr("found -0.25")));
  input = random_batch();
  input.dimension_credit = at::full_like(input.tokens, 0.5, at::kDouble);
  input.dimension_credit[0][0] = -3;
  EXPECT_THAT(message_of<RunError>([&] { apo_loss(input, {.credit = Credit::dimension}); }),
              AllOf(HasSubstr("dimension_credit"), HasSubstr("from 0 to 1"), HasSubstr("found -3")));
  input = random_batch();
  input.sample_weight = at::full_like(input.action_l1, -1);
  EXPECT_THAT(message_of<RunError>([&] { apo_loss(input, {.type = ObjectiveType::weighted_bc}); }),
              AllOf(HasSubstr("sample_weight"), HasSubstr("found -1")));
}

TEST(Objective, RunsOnTheMetaDevice) {
  // no value is ever looked at, so no device is ever waited for
  for (const auto kind :
       {ObjectiveType::apo, ObjectiveType::kto, ObjectiveType::sft, ObjectiveType::weighted_bc})
    for (const auto z0 : all_estimators()) {
      const ObjectiveInput input =
          testing::transformed(random_batch(), [](const at::Tensor& tensor) { return tensor.to(at::kMeta); });
      const ObjectiveOptions options{.type = kind,
                                     .z0 = z0,
                                     .sft_weight = 0.1,
                                     .label_smoothing_bins = 1.0,
                                     .credit = Credit::dimension};
      BatchStatistics whole = measure(input, options);
      whole += measure(input, options);
      const ObjectiveOutput out = evaluate(input, options, whole);
      EXPECT_TRUE(out.loss.is_meta());
      EXPECT_EQ(out.loss.dim(), 0);
      EXPECT_EQ(out.sample_loss.sizes(), (at::IntArrayRef{6}));
    }
}

TEST(Objective, SaysWhichTensorIsWrong) {
  const ObjectiveInput good = random_batch();
  const auto message = [&good](auto&& change, const ObjectiveOptions& options = {}) {
    ObjectiveInput input = good;
    change(input);
    return message_of<RunError>([&] { apo_loss(input, options); });
  };
  EXPECT_THAT(message([](auto& x) { x.policy_logits = at::Tensor(); }),
              AllOf(HasSubstr("policy_logits"), HasSubstr("nothing")));
  EXPECT_THAT(message([](auto& x) { x.reference_logits = at::Tensor(); }),
              AllOf(HasSubstr("reference_logits"), HasSubstr("nothing")));
  EXPECT_THAT(message([](auto& x) {
                x.reference_logits = at::zeros({6, 4, 10}, at::kDouble);
              }),
              AllOf(HasSubstr("reference_logits"), HasSubstr("[6, 4, 11]"), HasSubstr("[6, 4, 10]")));
  EXPECT_THAT(message([](auto& x) { x.reference_logits = x.reference_logits.to(at::kFloat); }),
              AllOf(HasSubstr("reference_logits"), HasSubstr("Double"), HasSubstr("Float")));
  EXPECT_THAT(message([](auto& x) { x.desirable = at::Tensor(); }), HasSubstr("desirable"));
  EXPECT_THAT(message([](auto& x) { x.action_l1 = at::zeros({5}); }),
              AllOf(HasSubstr("action_l1"), HasSubstr("[5]")));
  EXPECT_THAT(message([](auto& x) { x.end_token = at::zeros({6, 5}, at::kBool); }), HasSubstr("end_token"));
  EXPECT_THAT(message(
                  [](auto& x) {
                    x.dimension_credit = at::zeros({6, 5});
                  },
                  {.credit = Credit::dimension}),
              HasSubstr("dimension_credit"));
  EXPECT_THAT(message([](auto& x) { x.mismatched_tokens = at::Tensor(); }, {.z0 = Z0Estimator::mismatched}),
              HasSubstr("mismatched_tokens"));
  EXPECT_THAT(
      message([](auto& x) { x.mismatched_policy_logits = at::Tensor(); }, {.z0 = Z0Estimator::mismatched}),
      HasSubstr("mismatched_policy_logits"));
  EXPECT_THAT(message([](auto& x) { x.sample_weight = at::Tensor(); }, {.type = ObjectiveType::weighted_bc}),
              HasSubstr("sample_weight"));
  EXPECT_THAT(message([](auto& x) { x.last_action_token = -1; }, {.label_smoothing_bins = 1.0}),
              HasSubstr("last_action_token"));
  EXPECT_THAT(message_of<RunError>([&] { evaluate(good, {}, {}); }), HasSubstr("statistics"));
  EXPECT_THAT(message_of<DataError>([&] {
                ObjectiveInput input = good;
                input.tokens = input.tokens + 100;
                apo_loss(input);
              }),
              HasSubstr("tokens[0, 0]"));
}

}  // namespace
}  // namespace apo::objective
