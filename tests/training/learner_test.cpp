#include "training/learner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "support/chunk_policy.h"
#include "support/near.h"
#include "training/learner_batch.h"
#include "training/linear_policy.h"
#include "training/objectives.h"

namespace apo::training {
namespace {

using apo::testing::LinearPolicy;
using objective::Credit;
using objective::ObjectiveOptions;
using objective::ObjectiveType;
using objective::Reduction;
using objective::WeightType;
using objective::Z0Estimator;

std::vector<at::Tensor> gradients_of(const LinearPolicy& policy) {
  std::vector<at::Tensor> gradients;
  for (const auto& [name, tensor] : policy.named_parameters()) gradients.push_back(tensor.grad().clone());
  return gradients;
}

TEST(Learner, HoldsDemonstrationsAndThePolicysOwnGoodSteps) {
  Pair pair;
  std::vector<data::Sample> batch = batch_of(5);  // expert, intervention, undesirable, expert, intervention
  batch[4].source = ActionSource::policy;         // a good step of its own
  const ObjectiveOptions options{.z0 = Z0Estimator::none, .reference_kl_weight = 0.5};
  std::vector<data::Sample> held = {batch[0], batch[3], batch[4]};
  std::vector<Observation> observations;
  std::vector<ActionChunk> actions;
  for (const data::Sample& sample : held) {
    observations.push_back(sample.observation);
    actions.push_back(sample.actions);
  }
  const auto input = pair.policy.encode(observations);
  const auto tokens = pair.policy.tokenize(actions);
  const at::Tensor log_policy =
                       at::log_softmax(pair.policy.score(input, tokens, nullptr).logits.whole().detach(), -1),
                   log_reference =
                       at::log_softmax(pair.start.score(input, tokens, nullptr).logits.whole(), -1);
  const double expected = (log_reference.exp() * (log_reference - log_policy)).sum(-1).mean().item<double>();
  const BatchOutcome outcome = Learner(pair.policy, &pair.reference, options, 0, false).learn(batch);
  EXPECT_GT(expected, 1e-3);
  EXPECT_NEAR(outcome.reference_kl, expected, 1e-6 * std::max(1.0, expected));
  // nothing is held: the objective has no such thing
  Pair other;
  std::vector<data::Sample> second = batch_of(5);
  EXPECT_TRUE(std::isnan(
      Learner(other.policy, &other.reference, {.z0 = Z0Estimator::none, .reference_kl_weight = 0}, 0, false)
          .learn(second)
          .reference_kl));
}

TEST(Learner, MicroBatchesEqualTheWholeBatch) {
  for (const auto& [name, options] : objectives()) {
    for (const int64_t micro : {1, 3, 8, 11}) {
      SCOPED_TRACE(concat(name, ", micro-batches of ", micro));
      Pair whole, parts;
      std::vector<data::Sample> first = batch_of(11), second = batch_of(11);
      const BatchOutcome a = Learner(whole.policy, &whole.reference, options, 0, false).learn(first);
      const BatchOutcome b = Learner(parts.policy, &parts.reference, options, micro, false).learn(second);
      EXPECT_NEAR(a.loss, b.loss, 1e-6 * std::max(1.0, std::abs(a.loss)));
      if (!std::isnan(a.z0)) {
        EXPECT_NEAR(a.z0, b.z0, 1e-6);
      }
      for (const auto member : {&BatchOutcome::log_prob, &BatchOutcome::reward, &BatchOutcome::action_l1,
                                &BatchOutcome::weight, &BatchOutcome::lambda, &BatchOutcome::sample_loss})
        EXPECT_TRUE(at::allclose(a.*member, b.*member, 1e-6, 1e-6, /*equal_nan=*/true));
      const auto one = gradients_of(whole.policy), other = gradients_of(parts.policy);
      for (size_t i = 0; i < one.size(); ++i) {
        EXPECT_GT(one[i].abs().max().item<double>(), 1e-4);
        EXPECT_TRUE(at::allclose(one[i], other[i], 1e-5, 1e-6)) << "parameter " << i;
      }
    }
  }
}

TEST(Learner, TheWholeBatchNeedsOneForwardPassAndMicroBatchesTwo) {
  Pair pair;
  std::vector<data::Sample> first = batch_of(6), second = batch_of(6), third = batch_of(6);
  Learner(pair.policy, &pair.reference, {}, 0, false).learn(first);
  EXPECT_EQ(pair.policy.num_scored, 6);
  Learner(pair.policy, &pair.reference, {}, 2, false).learn(second);
  EXPECT_EQ(pair.policy.num_scored, 6 + 12);
  // SFT's statistics need no logits
  Learner(pair.policy, nullptr, {.type = ObjectiveType::sft}, 2, false).learn(third);
  EXPECT_EQ(pair.policy.num_scored, 6 + 12 + 6);
}

TEST(Learner, TheStartingPolicyHasNoRewardAndHalfTheLoss) {
  // π = π_ref: r = 0, z0 = 0, 1 − v = ½ for every sample; L = Σ λ / 2
  Pair pair(/*moved=*/false);
  std::vector<data::Sample> samples = batch_of(9);
  const ObjectiveOptions paper = {.preset = objective::Preset::paper};
  const BatchOutcome out = Learner(pair.policy, &pair.reference, paper, 4, false).learn(samples);
  EXPECT_EQ(out.reward.abs().max().item<double>(), 0);
  EXPECT_EQ(out.z0, 0);
  EXPECT_TRUE(at::equal(out.sample_loss, at::full({9}, 0.5, at::kDouble)));
  EXPECT_NEAR(out.loss, 0.5 * (out.lambda_desirable + out.lambda_undesirable), 1e-6);
  EXPECT_NEAR(out.loss, 0.5 * out.lambda.sum().item<double>(), 1e-6);
}

TEST(Learner, TheActionErrorIsTheGreedyActionsDistance) {
  // a policy whose head prefers bin 7 (+1) everywhere: 8 bins stand for −1 + 2 b / 7
  //   recorded (−1, +1) is bins (0, 7): mean(|1 − (−1)|, |1 − 1|) = 1;   the end token's position does not
  //   count
  LinearPolicy policy(1);
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : policy.named_parameters()) tensor.zero_();
    policy.named_parameters()[2].second.fill_(1);  // hidden = tanh(1) everywhere
    policy.named_parameters()[3].second.select(0, 7).fill_(1);
    policy.named_parameters()[3].second.select(0, LinearPolicy::kEndToken).fill_(5);  // not an action
  }
  std::vector<data::Sample> samples = {sample(0), sample(1)};
  samples[0].actions = {{-1, 1}};
  samples[1].actions = {{1, 1}};
  const BatchOutcome out = Learner(policy, nullptr, {.type = ObjectiveType::sft}, 0, false).learn(samples);
  EXPECT_NEAR(out.action_l1[0].item<double>(), 1.0, 1e-6);
  EXPECT_NEAR(out.action_l1[1].item<double>(), 0.0, 1e-6);
}

TEST(Learner, DimensionCreditReachesTheTokensOfItsDimension) {
  // Undesirable samples only, with credit (1/4, 1) for the two dimensions and 1 for the end token:
  //   r = ¼ Δ₀ + Δ₁ + Δ₂, Δ the tokens' log-ratios
  Pair pair;
  std::vector<data::Sample> samples = {sample(2), sample(5)};
  const BatchOutcome out =
      Learner(pair.policy, &pair.reference, {.credit = Credit::dimension}, 0, false).learn(samples);
  const at::Tensor ratio = out.token_log_probs - out.reference_token_log_probs;
  const at::Tensor expected = (ratio * at::tensor({0.25, 1.0, 1.0}, at::kDouble)).sum(1);
  EXPECT_TRUE(at::allclose(out.reward, expected, 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(out.reward, ratio.sum(1), 1e-3, 1e-3));
}

TEST(Learner, MismatchedTokensAreTheNextSamplesOfTheWholeBatch) {
  // z0 = mean_i Σ_t log π(a_{i+1} | o_i) − log π_ref(same): a batch whose actions are rolled by hand has
  // these as its own
  Pair pair;
  std::vector<data::Sample> samples = batch_of(5), rolled = batch_of(5);
  for (size_t i = 0; i < 5; ++i) rolled[i].actions = sample(static_cast<int>((i + 1) % 5)).actions;
  const ObjectiveOptions options = {.z0 = Z0Estimator::mismatched, .kl_min = -1e3, .kl_max = 1e3};
  const BatchOutcome own = Learner(pair.policy, &pair.reference, options, 2, false).learn(samples);
  const BatchOutcome by_hand = Learner(pair.policy, &pair.reference, options, 0, false).learn(rolled);
  EXPECT_NEAR(own.z0, by_hand.reward.mean().item<double>(), 1e-5);
}

TEST(Learner, MicroBatchesInBfloat16NeedNoLogitsInTheFirstPass) {
  Pair pair;
  std::vector<data::Sample> samples = batch_of(6);
  const ObjectiveOptions options = {.z0 = Z0Estimator::none, .weights = {.type = WeightType::uniform}};
  EXPECT_TRUE(std::isfinite(Learner(pair.policy, &pair.reference, options, 2, true).learn(samples).loss));
}

TEST(Learner, BothPassesDropTheSameUnits) {
  LinearPolicy::dropout = 0.5;
  Pair pair;
  pair.policy.set_training(true);
  std::vector<data::Sample> samples = batch_of(8);
  at::manual_seed(5);
  const BatchOutcome out =
      Learner(pair.policy, &pair.reference,
              {.z0 = Z0Estimator::exact, .weights = {.type = WeightType::adaptive}}, 2, false)
          .learn(samples);
  LinearPolicy::dropout = 0;
  // w = l / Σ l of the group: with other units in the second pass, its errors l would not add up to the first
  // pass's
  double desirable = 0, undesirable = 0;
  for (int i = 0; i < 8; ++i) (i % 3 != 2 ? desirable : undesirable) += out.weight[i].item<double>();
  EXPECT_NEAR(desirable, 1.0, 1e-5);
  EXPECT_NEAR(undesirable, 1.0, 1e-5);
}

// In one pass, in two, and where the first pass needs no logits of the policy.
TEST(Learner, EqualPoliciesHaveNoRewardsUnderDropout) {
  LinearPolicy::dropout = 0.5;
  for (const Z0Estimator z0 : {Z0Estimator::exact, Z0Estimator::none})
    for (const WeightType weights : {WeightType::adaptive, WeightType::uniform})
      for (const int64_t micro_batch : {0, 2, 3}) {
        LinearPolicy policy(1);
        policy.set_training(true);
        LiveReference reference(policy, {.mode = models::ReferenceMode::copy});
        std::vector<data::Sample> samples = batch_of(8);
        at::manual_seed(5);
        const BatchOutcome out =
            Learner(policy, &reference, {.z0 = z0, .weights = {.type = weights}}, micro_batch, false)
                .learn(samples);
        EXPECT_EQ(out.reward.abs().max().item<double>(), 0) << static_cast<int>(z0) << " " << micro_batch;
        if (z0 == Z0Estimator::exact) {
          EXPECT_NEAR(out.z0, 0, 1e-6);
        }
      }
  LinearPolicy::dropout = 0;
}

TEST(Learner, CountsRecordedActionsBeyondTheTokens) {
  LinearPolicy policy(1);
  std::vector<data::Sample> samples = {sample(0), sample(1), sample(2)};
  samples[0].actions = {{1.5f, 0.0f}};
  samples[1].actions = {{-1.0f, 1.0f}};  // the ends themselves fit
  samples[2].actions = {{-7.0f, 1.1f}};
  EXPECT_EQ(
      Learner(policy, nullptr, {.type = ObjectiveType::sft}, 0, false).learn(samples).num_clipped_actions, 3);
}

// Every hidden unit is tanh(100) = 1 and the head knows the end token alone, so that each of the 2 action
// tokens of 5 samples is predicted as the end token: 10 are clamped, however the batch is split. Among action
// tokens none is.
TEST(Learner, CountsPredictedTokensThatAreNoActions) {
  for (const int64_t micro_batch : {0, 2}) {
    Pair pair;
    {
      const at::NoGradGuard no_grad;
      const models::NamedTensors parameters = pair.policy.named_parameters();
      parameters[2].second.fill_(100);
      parameters[3].second.zero_()[LinearPolicy::kEndToken].fill_(1);
    }
    std::vector<data::Sample> samples = batch_of(5), same = batch_of(5);
    const ObjectiveOptions released = {.compatibility = objective::Compatibility::released_code};
    EXPECT_EQ(
        Learner(pair.policy, &pair.reference, released, micro_batch, false).learn(samples).num_clamped_tokens,
        10);
    EXPECT_EQ(Learner(pair.policy, &pair.reference, {}, micro_batch, false).learn(same).num_clamped_tokens,
              0);
  }
}

TEST(Learner, WeightedCloningGivesInterventionsHalfTheWeight) {
  // 11 samples: 4 expert (i = 0, 3, 6, 9), 4 interventions (1, 4, 7, 10), 3 undesirable; drop two
  // interventions
  LinearPolicy policy(1);
  std::vector<data::Sample> samples;
  for (const int i : {0, 1, 2, 3, 5, 6, 9}) samples.push_back(sample(i));
  const BatchOutcome out =
      Learner(policy, nullptr, {.type = ObjectiveType::weighted_bc}, 0, false).learn(samples);
  // others 0, 3, 6, 9 weigh 1; the intervention 4 / 1; undesirable 0
  EXPECT_TRUE(at::equal(out.lambda, at::tensor({1.0, 4.0, 0.0, 1.0, 0.0, 1.0, 1.0}, at::kDouble)));
}

TEST(Learner, ComparesTheHumansActionWithThePolicys) {
  // interventions 1 and 4 make pairs, 7 has no recorded policy action; others are in no pair
  Pair pair;
  std::vector<data::Sample> samples = batch_of(9);
  samples[7].policy_actions.clear();
  const BatchOutcome out =
      Learner(pair.policy, &pair.reference, {.type = ObjectiveType::dpo, .beta = 0.7}, 0, false)
          .learn(samples);
  ASSERT_EQ(samples.size(), 11u);
  EXPECT_EQ(samples[2].actions, sample(1).policy_actions);  // right after the human's
  EXPECT_EQ(samples[2].source, ActionSource::policy);
  EXPECT_FALSE(samples[2].desirable);
  EXPECT_EQ(samples[2].index, samples[1].index);
  EXPECT_EQ(out.num_pairs, 2);
  EXPECT_EQ(out.num_unpaired, 1);
  // the loss from the rewards: rows 1 | 2 and 5 | 6
  const at::Tensor margin = (out.reward - out.reward.roll(-1, 0)) * 0.7;
  const auto pair_loss = [&](int64_t i) { return std::log1p(std::exp(-margin[i].item<double>())); };
  EXPECT_NEAR(out.loss, pair_loss(1) + pair_loss(5), 1e-5);
  EXPECT_NEAR(out.sample_loss[2].item<double>(), pair_loss(1), 1e-5);
  EXPECT_TRUE(std::isnan(out.sample_loss[0].item<double>()));
}

TEST(Learner, LooksOnceForBothSidesOfAPair) {
  // interventions 1, 4 and 7; what the policy wanted there, each beside its own observation
  std::vector<data::Sample> one_by_one;
  for (int i = 0; i < 9; ++i) {
    one_by_one.push_back(sample(i));
    if (one_by_one.back().policy_actions.empty()) continue;
    one_by_one.push_back(sample(i));
    one_by_one.back().actions = one_by_one.back().policy_actions;
  }
  Pair alone;
  const at::Tensor expected = Learner(alone.policy, &alone.reference, {}, 0, false).learn(one_by_one).reward;
  EXPECT_EQ(alone.policy.num_encoded, 12);
  for (const int64_t micro_batch : {0, 4}) {
    Pair pair;
    std::vector<data::Sample> samples = batch_of(9);
    const BatchOutcome out =
        Learner(pair.policy, &pair.reference, {.type = ObjectiveType::dpo}, micro_batch, false)
            .learn(samples);
    EXPECT_EQ(pair.policy.num_encoded, 9);
    EXPECT_TRUE(at::allclose(out.reward, expected, 0, 1e-6)) << out.reward << expected;
  }
}

TEST(Learner, ComparesWholeSegments) {
  // one take-over: the policy's steps 2 and 5 led to it, 1 and 4 are the human's; 0 and 3 are demonstrations
  Pair pair;
  std::vector<data::Sample> samples = batch_of(6);
  for (data::Sample& s : samples)
    if (s.take_over_number >= 0) s.take_over_number = 0;
  const BatchOutcome out =
      Learner(pair.policy, &pair.reference, {.type = ObjectiveType::tpo, .beta = 0.7}, 0, false)
          .learn(samples);
  ASSERT_EQ(samples.size(), 6u);  // 0 3 | 1 4 | 2 5
  const auto r = [&](int64_t i) { return out.reward[i].item<double>(); };
  EXPECT_NEAR(out.loss, std::log1p(std::exp(-0.7 * (r(2) + r(3) - r(4) - r(5)))), 1e-5);
  EXPECT_EQ(out.num_pairs, 1);
  EXPECT_EQ(out.num_unpaired, 0);
}

TEST(Learner, TheStartingPolicyPrefersNothing) {
  for (const auto type : {ObjectiveType::dpo, ObjectiveType::tpo}) {
    Pair pair(/*moved=*/false);
    std::vector<data::Sample> samples = batch_of(9);
    const BatchOutcome out =
        Learner(pair.policy, &pair.reference, {.type = type, .reduction = Reduction::mean}, 4, false)
            .learn(samples);
    EXPECT_EQ(out.num_pairs, 3);
    EXPECT_EQ(out.pair_accuracy, 0);
    EXPECT_NEAR(out.loss, std::log(2.0), 1e-6);
  }
}

TEST(Learner, Bfloat16IsNearFloat32AndLeavesTheWeightsAlone) {
  Pair exact, coarse;
  std::vector<data::Sample> first = batch_of(9), second = batch_of(9);
  const ObjectiveOptions options = {.z0 = Z0Estimator::exact};
  const BatchOutcome a = Learner(exact.policy, &exact.reference, options, 0, false).learn(first);
  const BatchOutcome b = Learner(coarse.policy, &coarse.reference, options, 0, true).learn(second);
  EXPECT_NE(a.loss, b.loss);
  EXPECT_NEAR(a.loss, b.loss, 0.02);
  EXPECT_FALSE(at::equal(a.log_prob, b.log_prob));
  EXPECT_TRUE(at::allclose(a.log_prob, b.log_prob, 0.02, 0.05));
  for (const auto& [name, tensor] : coarse.policy.named_parameters()) {
    EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
    EXPECT_EQ(tensor.grad().scalar_type(), at::kFloat) << name;
  }
}

// By hand: of two steps of two numbers each, one number alone counts: the reward is its log-ratio.
TEST(Learner, BlamesEachStepAndDimensionOfAChunkByItself) {
  std::vector<data::Sample> batch = {sample(2), sample(5)};
  for (data::Sample& each : batch) {
    each.actions = {{0.5f, -0.5f}, {1, 0}};
    each.observation.state = {{"pose", {0.4f}}};
    each.dimension_credit = {0, 0, 0.5f, 0};
  }
  apo::testing::ChunkPolicy policy, start;
  {
    const at::NoGradGuard no_grad;
    policy.named_parameters()[0].second.mul_(1.3);
  }
  LiveReference reference(start, {.mode = models::ReferenceMode::copy});
  const BatchOutcome outcome =
      Learner(policy, &reference, {.z0 = Z0Estimator::none, .credit = Credit::dimension}, 0, false)
          .learn(batch);
  const at::Tensor ratio = outcome.token_log_probs - outcome.reference_token_log_probs;
  EXPECT_GT(ratio[0][2].abs().item<double>(), 1e-3);
  EXPECT_NEAR(outcome.reward[0].item<double>(), 0.5 * ratio[0][2].item<double>(), 1e-6);
}

// Three steps at once, of which some samples have one or two: micro-batches are the whole batch, and what is
// not there has no gradient.
TEST(Learner, LearnsFromChunksOfUnequalLengths) {
  std::vector<data::Sample> batch;
  for (int i = 0; i < 6; ++i) {
    batch.push_back(sample(i));
    for (int more = 0; more < i % 3; ++more)
      batch.back().actions.push_back({0.5f * static_cast<float>(more), -0.5f});
    batch.back().dimension_credit.clear();
    batch.back().observation.state = {{"pose", {0.2f * static_cast<float>(i)}}};
  }
  const auto learned = [&](int64_t micro_batch_size, std::vector<data::Sample> samples) {
    apo::testing::ChunkPolicy policy, start;
    {
      const at::NoGradGuard no_grad;
      policy.named_parameters()[0].second.mul_(1.3);
    }
    LiveReference reference(start, {.mode = models::ReferenceMode::copy});
    Learner learner(policy, &reference, {}, micro_batch_size, false);
    const BatchOutcome outcome = learner.learn(samples);
    return std::pair(policy.named_parameters()[0].second.grad().clone(), outcome);
  };
  const auto [whole, outcome] = learned(0, batch);
  const auto [parts, ignored] = learned(2, batch);
  EXPECT_LT(apo::testing::distance(whole, parts), 1e-6);
  EXPECT_GT(whole.abs().max().item<double>(), 1e-4);
  EXPECT_EQ(outcome.mask.sum().item<int64_t>(), 2 * 2 * (1 + 2 + 3));
  EXPECT_TRUE(outcome.token_log_probs.masked_select(outcome.mask.logical_not()).eq(0).all().item<bool>());
  // other numbers in steps that are not there change nothing: the same batch with its chunks' last actions
  // repeated is another
  std::vector<data::Sample> longer = batch;
  for (data::Sample& each : longer)
    while (each.actions.size() < 3) each.actions.push_back(each.actions.back());
  EXPECT_GT(apo::testing::distance(learned(0, longer).first, whole), 1e-4);
}

}  // namespace
}  // namespace apo::training
