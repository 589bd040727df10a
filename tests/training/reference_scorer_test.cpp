// The learner knows its reference by what it answers; whoever answers, the batch is asked about row by row.
#include "training/reference_scorer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "training/cached_reference.h"
#include "training/learner.h"
#include "training/learner_batch.h"
#include "training/objectives.h"

namespace apo::training {
namespace {

using objective::ReferenceScores;
using ::testing::ElementsAre;
using ::testing::FieldsAre;
using testing::LinearPolicy;

// Says −(100 · row + token) of every token and remembers what it was asked.
struct Stub : ReferenceScorer {
  static at::Tensor said(int64_t begin, int64_t end) {
    return -(at::arange(begin, end, at::kFloat).unsqueeze(1) * 100 +
             at::arange(LinearPolicy::kTokens, at::kFloat));
  }
  ReferenceScores score(const Question& question) override {
    asked.emplace_back(question.position, question.begin, question.end);
    EXPECT_EQ(question.input.size(), question.end - question.begin);
    EXPECT_EQ(question.mismatched.ids.defined(), question.options.needs_mismatched_logits());
    return {said(question.begin, question.end), said(question.begin, question.end), {}};
  }
  std::vector<std::tuple<int64_t, int64_t, int64_t>> asked;
};

TEST(ReferenceScorer, TheLearnerReadsWhatItIsToldOfEachRowOnce) {
  for (const auto z0 : {objective::Z0Estimator::mismatched, objective::Z0Estimator::shifted_labels,
                        objective::Z0Estimator::none}) {
    objective::ObjectiveOptions options{.z0 = z0};
    options.reference_kl_weight = 0;
    LinearPolicy policy(1);
    Stub stub;
    std::vector<data::Sample> samples = batch_of(5);
    const BatchOutcome outcome = Learner(policy, &stub, options, 2, false).learn(samples, 7);
    EXPECT_THAT(stub.asked, ElementsAre(FieldsAre(7, 0, 2), FieldsAre(7, 2, 4), FieldsAre(7, 4, 5)));
    EXPECT_TRUE(at::equal(outcome.reference_token_log_probs, Stub::said(0, 5).to(at::kDouble)));
    EXPECT_TRUE(
        at::allclose(outcome.reward, (outcome.token_log_probs - outcome.reference_token_log_probs).sum(1)));
  }
}

// A resumed batch may be cut otherwise than the one that the scores were kept of.
TEST(ReferenceScorer, WhatWasKeptIsReadByPositionAndRow) {
  for (const auto& [name, options] : objectives()) {
    if (!options.needs_reference() || options.compares_distributions()) continue;
    SCOPED_TRACE(name);
    Pair live, kept;
    CachedReference cached;
    std::vector<data::Sample> other = batch_of(4), first = batch_of(7), second = first, third = first;
    const Learner filling(kept.policy, nullptr, options, 3, false);
    cached.add(filling.reference_scores(other, kept.reference));
    cached.add(filling.reference_scores(first, kept.reference));
    const BatchOutcome a = Learner(live.policy, &live.reference, options, 2, false).learn(second);
    const BatchOutcome b = Learner(kept.policy, &cached, options, 2, false).learn(third, 1);
    EXPECT_NEAR(a.loss, b.loss, 1e-6 * std::max(1.0, std::abs(a.loss)));
    EXPECT_TRUE(at::allclose(a.reward, b.reward, 1e-5, 1e-6, /*equal_nan=*/true));
  }
}

// A policy that sees other pictures where it does not train (OpenVLA crops them).
struct CroppingPolicy : LinearPolicy {
  using LinearPolicy::LinearPolicy;
  models::PolicyInput encode(std::span<const Observation> observations) const override {
    models::PolicyInput input = LinearPolicy::encode(observations);
    if (!training()) input.state = input.state * 0.9;
    return input;
  }
};

TEST(ReferenceScorer, ThePolicyItselfAnswersWithoutDropoutOfWhatTrainingSees) {
  CroppingPolicy policy(1);
  policy.set_training(true);
  PolicyItself start(policy);
  const objective::ObjectiveOptions options{.z0 = objective::Z0Estimator::none, .reference_kl_weight = 0};
  Learner learner(policy, &start, options, 0, false);
  std::vector<data::Sample> first = batch_of(5), second = first;
  LinearPolicy::dropout = 0.5;
  const ReferenceScores kept = learner.reference_scores(first, start);
  LinearPolicy::dropout = 0;
  EXPECT_TRUE(policy.training());
  EXPECT_FALSE(kept.tokens.requires_grad());
  const BatchOutcome outcome = learner.learn(second);
  EXPECT_EQ(outcome.reward.abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(outcome.token_log_probs, kept.tokens.to(at::kDouble)));
}

}  // namespace
}  // namespace apo::training
