// dpo and tpo: the loss of pairs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "apo/objective/objective.h"
#include "objective/batch.h"

namespace apo::objective {
namespace {

using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::leaf;
using testing::message_of;
using testing::number;
using testing::random_batch;

at::Tensor pairs(std::initializer_list<int64_t> numbers) {
  return at::tensor(std::vector<int64_t>(numbers), at::kLong);
}
at::Tensor flags(std::initializer_list<int64_t> numbers) { return pairs(numbers).to(at::kBool); }

// Seven samples: pair 0 is {1 | 2}, pair 1 is {3, 4 | 5}; 0 and 6 are in no pair.
ObjectiveInput paired_batch(uint64_t seed = 3) {
  ObjectiveInput input = random_batch({.samples = 7, .tokens = 3, .vocabulary = 9, .seed = seed});
  input.desirable = flags({1, 1, 0, 1, 1, 0, 0});
  input.pair = pairs({-1, 0, 0, 1, 1, 1, -1});
  return input;
}

const std::vector<ObjectiveType> kPairTypes = {ObjectiveType::dpo, ObjectiveType::tpo};

TEST(Pairs, ByHand) {
  // one token of two, reference (1/2, 1/2). Preferred: policy (3/4, 1/4), token 0: r = ln 3/2
  //                                         rejected:  policy (1/4, 3/4), token 0: r = ln 1/2
  // beta 2: margin 2 (ln 3/2 - ln 1/2) = ln 9, loss = -ln sigma(ln 9) = -ln 9/10
  ObjectiveInput input;
  input.policy_logits =
      leaf(at::tensor({std::log(3.0), 0.0, 0.0, std::log(3.0)}, at::kDouble).reshape({2, 1, 2}));
  input.reference_logits = at::zeros({2, 1, 2}, at::kDouble);
  input.tokens = at::zeros({2, 1}, at::kLong);
  input.desirable = flags({1, 0});
  input.pair = pairs({0, 0});
  const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::dpo, .beta = 2});
  EXPECT_NEAR(number(out.loss), std::log(10.0 / 9), 1e-12);
  EXPECT_NEAR(number(out.reward[0]), std::log(1.5), 1e-12);
  EXPECT_NEAR(number(out.reward[1]), std::log(0.5), 1e-12);
  EXPECT_EQ(number(out.num_pairs), 1);
  EXPECT_EQ(number(out.preferred_pairs), 1);
  // dL/dR+ = -beta (1 - sigma) = -0.2, dL/dR- = +0.2; dr/dlogit 0 = 1 - pi(0): 1/4 and 3/4
  out.loss.backward();
  EXPECT_NEAR(number(input.policy_logits.grad()[0][0][0]), -0.2 * 0.25, 1e-12);
  EXPECT_NEAR(number(input.policy_logits.grad()[1][0][0]), 0.2 * 0.75, 1e-12);
}

TEST(Pairs, SegmentsAddUpTheirSteps) {
  // the same preferred step; two rejected steps like the one above: R- = 2 ln 1/2, beta 1:
  // margin = ln 3/2 + 2 ln 2 = ln 6, loss = ln 7/6
  ObjectiveInput input;
  input.policy_logits = at::tensor({std::log(3.0), 0.0, 0.0, std::log(3.0), 0.0, std::log(3.0)}, at::kDouble)
                            .reshape({3, 1, 2});
  input.reference_logits = at::zeros({3, 1, 2}, at::kDouble);
  input.tokens = at::zeros({3, 1}, at::kLong);
  input.desirable = flags({1, 0, 0});
  input.pair = pairs({2, 2, 2});  // any number below the number of samples
  const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::tpo, .beta = 1});
  EXPECT_NEAR(number(out.loss), std::log(7.0 / 6), 1e-12);
  // each of the three is a third of the only pair
  EXPECT_LT(distance(out.weight, at::full({3}, 1.0 / 3, at::kDouble)), 1e-12);
  EXPECT_EQ(number(out.lambda_desirable), 1);
  EXPECT_EQ(number(out.lambda_undesirable), 2);
}

TEST(Pairs, PolicyEqualToReferenceGivesLogTwoAPair) {
  for (const auto type : kPairTypes)
    for (const auto scalar : {at::kFloat, at::kDouble, at::kBFloat16}) {
      ObjectiveInput input = paired_batch();
      input.policy_logits = input.policy_logits.to(scalar);
      input.reference_logits = input.policy_logits.clone();
      const ObjectiveOutput sum = apo_loss(input, {.type = type});
      EXPECT_NEAR(number(sum.loss), 2 * std::log(2.0), 1e-6);
      EXPECT_NEAR(number(apo_loss(input, {.type = type, .reduction = Reduction::mean}).loss), std::log(2.0),
                  1e-6);
      EXPECT_EQ(number(sum.reward.abs().max()), 0);
      EXPECT_EQ(number(sum.num_pairs), 2);
      EXPECT_EQ(number(sum.preferred_pairs), 0);
    }
}

TEST(Pairs, EqualPlainComposition) {
  for (const auto type : kPairTypes)
    for (const uint64_t seed : {1, 2, 3, 4, 5}) {
      const ObjectiveInput input = paired_batch(seed);
      const at::Tensor ratio = (input.policy_logits.log_softmax(-1) - input.reference_logits.log_softmax(-1))
                                   .gather(-1, input.tokens.unsqueeze(-1))
                                   .squeeze(-1);
      const at::Tensor r = (ratio * input.mask).sum(-1);
      const double first = number(r[1] - r[2]), second = number(r[3] + r[4] - r[5]);
      const double expected = std::log1p(std::exp(-0.3 * first)) + std::log1p(std::exp(-0.3 * second));
      const ObjectiveOutput out = apo_loss(input, {.type = type, .beta = 0.3});
      EXPECT_NEAR(number(out.loss), expected, 1e-10);
      EXPECT_EQ(number(out.preferred_pairs), (first > 0) + (second > 0));
      EXPECT_NEAR(number((out.weight * out.sample_loss).nansum()), expected / 2, 1e-10);
      EXPECT_NEAR(number(out.weight.sum()), 1, 1e-12);
      for (const int64_t alone : {0, 6}) EXPECT_TRUE(std::isnan(number(out.sample_loss[alone])));
    }
}

TEST(Pairs, GradientEqualsTheNumericalOne) {
  std::vector<ObjectiveOptions> variants;
  for (const auto type : kPairTypes) {
    variants.push_back({.type = type, .beta = 0.7});
    variants.push_back({.type = type,
                        .beta = 0.7,
                        .reduction = Reduction::mean,
                        .sft_weight = 0.3,
                        .label_smoothing_bins = 1.2});
  }
  for (const ObjectiveOptions& options : variants) {
    ObjectiveInput input = paired_batch();
    const at::Tensor logits = input.policy_logits;
    const auto loss = [&](const at::Tensor& x) {
      ObjectiveInput moved = input;
      moved.policy_logits = x;
      return apo_loss(moved, options).loss;
    };
    const at::Tensor x = leaf(logits);
    loss(x).backward();
    const double h = 1e-5;
    for (int64_t i = 0; i < logits.numel(); i += 2) {
      at::Tensor up = logits.clone(), down = logits.clone();
      up.view(-1)[i] += h;
      down.view(-1)[i] -= h;
      EXPECT_NEAR(number(x.grad().view(-1)[i]), (number(loss(up)) - number(loss(down))) / (2 * h), 1e-8) << i;
    }
  }
}

TEST(Pairs, SamplesInNoPairMoveNothing) {
  ObjectiveInput input = paired_batch();
  input.policy_logits = leaf(input.policy_logits);
  apo_loss(input, {.type = ObjectiveType::dpo}).loss.backward();
  const at::Tensor size = input.policy_logits.grad().abs().sum(-1).sum(-1);
  for (const int64_t alone : {0, 6}) EXPECT_EQ(number(size[alone]), 0);
  for (const int64_t paired : {1, 2, 3, 4, 5}) EXPECT_GT(number(size[paired]), 0);
  // the anchor imitates desirable samples, in a pair or not
  input.policy_logits = leaf(input.policy_logits);
  apo_loss(input, {.type = ObjectiveType::dpo, .sft_weight = 0.5}).loss.backward();
  EXPECT_GT(number(input.policy_logits.grad()[0].abs().sum()), 0);
  EXPECT_EQ(number(input.policy_logits.grad()[6].abs().sum()), 0);
}

TEST(Pairs, APairWithoutASideIsLeftOut) {
  ObjectiveInput input = paired_batch();
  input.pair = pairs({3, 0, 0, 1, 1, -1, 4});  // 1 has no rejected side any more, 3 and 4 are alone
  ObjectiveInput first = testing::samples(input, 1, 3);
  first.pair = pairs({0, 0});
  for (const auto reduction : {Reduction::sum, Reduction::mean}) {
    const ObjectiveOptions options{.type = ObjectiveType::tpo, .reduction = reduction};
    const ObjectiveOutput out = apo_loss(input, options);
    EXPECT_EQ(number(out.num_pairs), 1);
    EXPECT_NEAR(number(out.loss), number(apo_loss(first, options).loss), 1e-12);
  }
}

TEST(Pairs, NoPairAtAllIsZeroAndFinite) {
  for (const auto type : kPairTypes)
    for (const auto reduction : {Reduction::sum, Reduction::mean}) {
      ObjectiveInput input = paired_batch();
      input.pair = at::full({7}, -1, at::kLong);
      input.policy_logits = leaf(input.policy_logits);
      const ObjectiveOutput out = apo_loss(input, {.type = type, .reduction = reduction});
      EXPECT_EQ(number(out.loss), 0);
      EXPECT_EQ(number(out.num_pairs), 0);
      out.loss.backward();
      EXPECT_EQ(number(input.policy_logits.grad().abs().max()), 0);
    }
}

TEST(Pairs, EnormousRewardsAreFinite) {
  for (const double sign : {1.0, -1.0}) {
    ObjectiveInput input = paired_batch();
    input.mask.fill_(true);
    input.policy_logits = input.policy_logits.clone();
    // the preferred step of pair 0 is 1e4 nats more (or less) likely than under the reference
    input.policy_logits[1][0][input.tokens[1][0].item<int64_t>()] += sign * 1e4;
    input.policy_logits = leaf(input.policy_logits);
    const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::dpo, .beta = 1});
    out.loss.backward();
    EXPECT_TRUE(std::isfinite(number(out.loss)));
    EXPECT_TRUE(input.policy_logits.grad().isfinite().all().item<bool>());
  }
}

TEST(Pairs, PartsAddUpToTheWholeBatch) {
  const ObjectiveInput input = paired_batch();
  ObjectiveInput first = testing::samples(input, 0, 3), second = testing::samples(input, 3, 7);
  first.pair = pairs({-1, 0, 0});
  second.pair = pairs({2, 2, 2, -1});
  const ObjectiveOptions options{
      .type = ObjectiveType::tpo, .beta = 0.4, .reduction = Reduction::mean, .sft_weight = 0.2};
  BatchStatistics whole = measure(first, options);
  whole += measure(second, options);
  EXPECT_EQ(number(whole[BatchStatistics::num_pairs]), 2);
  const double parts =
      number(evaluate(first, options, whole).loss) + number(evaluate(second, options, whole).loss);
  EXPECT_NEAR(parts, number(apo_loss(input, options).loss), 1e-10);
}

TEST(Pairs, NeitherZ0NorCreditBelongsToThem) {
  const ObjectiveInput input = paired_batch();
  ObjectiveOptions options{.type = ObjectiveType::dpo, .beta = 0.4};
  const double plain = number(apo_loss(input, options).loss);
  for (const auto z0 : testing::all_estimators())
    for (const auto credit : {Credit::sample, Credit::dimension}) {
      options.z0 = z0, options.credit = credit;
      const ObjectiveOutput out = apo_loss(input, options);
      EXPECT_EQ(number(out.loss), plain);
      EXPECT_FALSE(out.z0.defined());
    }
  EXPECT_FALSE(options.needs_mismatched_tokens());
  EXPECT_FALSE(options.needs_action_l1());
}

TEST(Pairs, RunOnTheMetaDevice) {
  ObjectiveInput input =
      testing::transformed(paired_batch(), [](const at::Tensor& t) { return t.to(at::kMeta); });
  input.pair = input.pair.to(at::kMeta);
  const ObjectiveOutput out = apo_loss(input, {.type = ObjectiveType::tpo});
  EXPECT_TRUE(out.loss.is_meta());
}

TEST(Pairs, SaysWhatIsWrong) {
  ObjectiveInput input = paired_batch();
  const auto message = [&] {
    return message_of<RunError>([&] { apo_loss(input, {.type = ObjectiveType::dpo}); });
  };
  input.pair = at::Tensor();
  EXPECT_THAT(message(), AllOf(HasSubstr("pair"), HasSubstr("found nothing")));
  input.pair = pairs({-1, 0, 0, 1, 1, 7, -1});
  EXPECT_THAT(message(), AllOf(HasSubstr("pair[5]"), HasSubstr("found 7")));
  input.pair = pairs({-2, 0, 0, 1, 1, 1, -1});
  EXPECT_THAT(message(), AllOf(HasSubstr("pair[0]"), HasSubstr("found -2")));
  input.pair = pairs({0, 0});
  EXPECT_THAT(message(), HasSubstr("pair"));
  input = paired_batch();
  input.reference_logits = at::Tensor();
  EXPECT_THAT(message(), HasSubstr("reference_logits"));
}

}  // namespace
}  // namespace apo::objective
