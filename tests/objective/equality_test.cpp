// Different roads to the same numbers: numerical gradients, micro-batches, ranks, and the golden numbers of
// an independent program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apo/config/options.h"
#include "apo/objective/objective.h"
#include "objective/all_options.h"
#include "objective/batch.h"
#include "support/places.h"

namespace apo::objective {
namespace {

using testing::all_estimators;
using testing::all_options;
using testing::distance;
using testing::leaf;
using testing::number;
using testing::random_batch;
using testing::samples;

std::string describe(ObjectiveOptions options) { return config::print(options); }

TEST(Gradient, EqualsTheNumericalOneForEveryObjective) {
  const ObjectiveInput input = random_batch({.samples = 3, .tokens = 3, .vocabulary = 6});
  for (const ObjectiveOptions& options : all_options()) {
    // z0 and the weights are constants: hold the statistics still
    const BatchStatistics whole = measure(input, options);
    ObjectiveInput x = input;
    x.policy_logits = leaf(input.policy_logits);
    evaluate(x, options, whole).loss.backward();
    const at::Tensor analytic = x.policy_logits.grad();
    const auto f = [&](int64_t i, double step) {
      ObjectiveInput moved = input;
      moved.policy_logits = input.policy_logits.clone();
      moved.policy_logits.view(-1)[i] += step;
      return number(evaluate(moved, options, whole).loss);
    };
    double worst = 0;
    for (int64_t i = 0; i < analytic.numel(); ++i)
      worst = std::max(worst, std::abs(number(analytic.view(-1)[i]) - (f(i, 1e-5) - f(i, -1e-5)) / 2e-5));
    EXPECT_LT(worst, 1e-9) << describe(options);
    EXPECT_GT(number(analytic.abs().max()), 1e-4) << describe(options);
  }
}

// Two ranks, or two micro-batches, of unequal sizes: statistics, losses and gradients add up to the whole
// batch's.
TEST(Statistics, PartsOfABatchAddUpToTheWhole) {
  const ObjectiveInput input = random_batch({.samples = 7});
  for (const ObjectiveOptions& options : all_options()) {
    if (options.released_code()) continue;
    SCOPED_TRACE(describe(options));
    ObjectiveInput whole = input, parts = input;
    whole.policy_logits = leaf(input.policy_logits), parts.policy_logits = leaf(input.policy_logits);
    const ObjectiveOutput expected = apo_loss(whole, options);
    expected.loss.backward();

    const ObjectiveInput first = samples(parts, 0, 5), second = samples(parts, 5, 7);
    BatchStatistics sum;
    sum += measure(first, options);
    sum += measure(second, options);
    EXPECT_LT(distance(sum.sums, measure(input, options).sums), 1e-12);
    const ObjectiveOutput a = evaluate(first, options, sum), b = evaluate(second, options, sum);
    const at::Tensor loss = a.loss + b.loss;
    EXPECT_NEAR(number(loss), number(expected.loss), 1e-12);
    loss.backward();
    EXPECT_LT(distance(parts.policy_logits.grad(), whole.policy_logits.grad()), 1e-12);
    EXPECT_LT(distance(at::cat({a.sample_loss, b.sample_loss}), expected.sample_loss), 1e-12);
    EXPECT_LT(distance(at::cat({a.weight, b.weight}), expected.weight), 1e-12);
    if (expected.reward.defined()) {
      EXPECT_LT(distance(at::cat({a.reward, b.reward}), expected.reward), 1e-12);
      EXPECT_NEAR(number(a.z0), number(expected.z0), 1e-12);
      EXPECT_NEAR(number(a.lambda_desirable + b.lambda_desirable), number(expected.lambda_desirable), 1e-12);
    }
  }
}

// One meaning of every key whatever the reduction: the sum is the mean times what the mean divides by, in
// losses and in gradients, for a batch at once and in parts.
TEST(Reduction, SumIsTheMeanTimesTheNumberOfTerms) {
  const ObjectiveInput input = random_batch({.samples = 7});
  std::vector<ObjectiveOptions> all;
  for (const ObjectiveOptions& options : all_options())
    if (!options.imitates() && !options.released_code()) all.push_back(options);
  for (const auto type : {ObjectiveType::dpo, ObjectiveType::tpo})
    for (const double held : {0.0, 0.3})
      all.push_back({.type = type, .beta = 0.7, .sft_weight = held, .reference_kl_weight = held});
  for (ObjectiveOptions options : all) {
    SCOPED_TRACE(describe(options));
    const auto gradient_and_loss = [&](Reduction reduction, bool in_parts) {
      options.reduction = reduction;
      ObjectiveInput x = input;
      x.policy_logits = leaf(input.policy_logits);
      x.pair = at::tensor({0, 0, 0, 1, -1, 1, 1}, at::kLong);  // a pair in each part
      ObjectiveInput first = samples(x, 0, 3), second = samples(x, 3, 7);
      first.pair = x.pair.slice(0, 0, 3), second.pair = x.pair.slice(0, 3, 7);
      BatchStatistics whole = measure(first, options);
      whole += measure(second, options);
      const at::Tensor loss =
          in_parts ? evaluate(first, options, whole).loss + evaluate(second, options, whole).loss
                   : apo_loss(x, options).loss;
      loss.backward();
      return std::pair{x.policy_logits.grad(), number(loss)};
    };
    const double terms = options.needs_pairs() ? 2 : 7;
    const auto [gradient, loss] = gradient_and_loss(Reduction::mean, false);
    for (const bool in_parts : {false, true}) {
      const auto [sum_gradient, sum] = gradient_and_loss(Reduction::sum, in_parts);
      EXPECT_NEAR(sum, terms * loss, 1e-12 * std::max(1.0, sum));
      EXPECT_LT(distance(sum_gradient, gradient * terms), 1e-12);
    }
  }
}

TEST(Statistics, AnEmptyPartChangesNothing) {
  const ObjectiveInput input = random_batch();
  BatchStatistics sum = measure(input, {});
  const at::Tensor alone = sum.sums.clone();
  sum += measure(samples(input, 0, 0), {});
  sum += BatchStatistics{};
  EXPECT_TRUE(at::equal(sum.sums, alone));
}

TEST(Statistics, ScoringOnceEqualsScoringTwice) {
  const ObjectiveInput input = random_batch({.type = at::kFloat});
  for (const ObjectiveOptions& options : all_options())
    EXPECT_EQ(number(apo_loss(input, options).loss),
              number(evaluate(input, options, measure(input, options)).loss))
        << describe(options);
}

TEST(Batch, OrderOfTheSamplesDoesNotMatter) {
  const ObjectiveInput input = random_batch();
  const at::Tensor order = at::tensor({3, 1, 5, 0, 4, 2}, at::kLong);
  const ObjectiveInput shuffled =
      testing::transformed(input, [&](const at::Tensor& tensor) { return tensor.index_select(0, order); });
  const ObjectiveOptions options{.sft_weight = 0.2};
  const ObjectiveOutput a = apo_loss(input, options), b = apo_loss(shuffled, options);
  EXPECT_NEAR(number(a.loss), number(b.loss), 1e-12);
  EXPECT_LT(distance(a.lambda.index_select(0, order), b.lambda), 1e-12);
}

TEST(Precision, Float32AndBfloat16AreNearFloat64) {
  const ObjectiveInput exact = random_batch({.vocabulary = 501, .type = at::kBFloat16});
  const auto as = [&exact](at::ScalarType type) {
    ObjectiveInput input = exact;
    for (at::Tensor* logits : {&input.policy_logits, &input.reference_logits, &input.mismatched_policy_logits,
                               &input.mismatched_reference_logits})
      *logits = logits->to(type);
    return input;
  };
  for (const auto z0 : all_estimators()) {
    const ObjectiveOptions options{.z0 = z0, .sft_weight = 0.1, .label_smoothing_bins = 2.0};
    const double want = number(apo_loss(as(at::kDouble), options).loss);
    EXPECT_NEAR(number(apo_loss(as(at::kFloat), options).loss), want, 1e-5);
    EXPECT_NEAR(number(apo_loss(exact, options).loss), want, 1e-5);  // the same numbers, stored as bfloat16
  }
}

class Golden : public ::testing::Test {
 protected:
  static at::Tensor listed(const nlohmann::json& numbers, at::IntArrayRef shape, at::ScalarType type) {
    return at::tensor(numbers.get<std::vector<double>>(), at::kDouble).to(type).view(shape);
  }
  void SetUp() override {
    std::ifstream file(apo::testing::in_source("tests/objective/goldens/objective.json"));
    ASSERT_TRUE(file.good());
    golden_ = nlohmann::json::parse(file);
  }
  nlohmann::json golden_;
};

TEST_F(Golden, AnIndependentProgramGivesTheSameNumbers) {
  const int64_t tokens = golden_["tokens"], vocabulary = golden_["vocabulary"];
  ASSERT_EQ(golden_["cases"].size(), 14u);
  for (const auto& golden : golden_["cases"]) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    // JSON is YAML: the options go the way that a user's configuration goes
    ObjectiveOptions options = config::load<ObjectiveOptions>(
        config::Document::from_text(golden["options"].dump(), {}, ".", "golden"));
    const bool released = options.compatibility == Compatibility::released_code;
    const auto type = released ? at::kFloat : at::kDouble;  // the released program computes in float32
    const double tolerance = released ? 3e-6 : 1e-6;        // smooth labels and credits are stored in float32
    const int64_t batch = golden["samples"];
    const auto& given = golden["input"];
    ObjectiveInput input;
    input.first_action_token = golden_["first_action_token"],
    input.last_action_token = golden_["last_action_token"];
    input.policy_logits = leaf(listed(given["policy_logits"], {batch, tokens, vocabulary}, type));
    input.reference_logits = listed(given["reference_logits"], {batch, tokens, vocabulary}, type);
    input.tokens = listed(given["tokens"], {batch, tokens}, at::kLong);
    input.end_token = input.tokens.eq(0);
    input.desirable = listed(given["desirable"], {batch}, at::kBool);
    input.held = listed(given["held"], {batch}, at::kBool);
    input.action_l1 = listed(given["action_l1"], {batch}, at::kFloat);
    input.dimension_credit = listed(given["dimension_credit"], {batch, tokens}, at::kFloat);
    if (options.z0 == Z0Estimator::mismatched) {
      input.mismatched_tokens = input.tokens.roll(-1, 0);
      input.mismatched_policy_logits =
          listed(given["mismatched_policy_logits"], {batch, tokens, vocabulary}, type);
      input.mismatched_reference_logits =
          listed(given["mismatched_reference_logits"], {batch, tokens, vocabulary}, type);
    }

    const ObjectiveOutput out = apo_loss(input, options);
    out.loss.backward();
    const auto& expected = golden["expected"];
    EXPECT_NEAR(number(out.loss), expected["loss"].get<double>(), tolerance);
    EXPECT_LT(distance(input.policy_logits.grad(),
                       listed(expected["policy_logits_gradient"], {batch, tokens, vocabulary}, type)),
              tolerance);
    if (options.imitates()) continue;
    EXPECT_NEAR(number(out.z0), expected["z0"].get<double>(), tolerance);
    EXPECT_NEAR(number(out.z0_unclamped), expected["z0_unclamped"].get<double>(), tolerance);
    EXPECT_LT(distance(out.reward, listed(expected["reward"], {batch}, type)), 2 * tolerance);
    EXPECT_LT(distance(out.lambda, listed(expected["lambda"], {batch}, type)), tolerance);
    EXPECT_LT(distance(out.sample_loss, listed(expected["sample_loss"], {batch}, type)), tolerance);
  }
}

}  // namespace
}  // namespace apo::objective
