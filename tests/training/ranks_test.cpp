// A batch on several ranks is the batch on one.
#include "training/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <memory>

#include "apo/base/error.h"
#include "support/message_of.h"
#include "support/ranks.h"
#include "support/shared_nccl.h"
#include "support/temp_dir.h"
#include "training/learner.h"
#include "training/learner_batch.h"
#include "training/objectives.h"

namespace apo::training {
namespace {

using distributed::Group;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LinearPolicy;
using testing::run_ranks;

// What a rank is given: the labels and actions of all samples, the observations that it wants.
std::vector<data::Sample> batch_for(const Learner& learner, int size) {
  std::vector<data::Sample> samples = batch_of(size);
  const std::vector<bool> wanted = learner.wanted(samples);
  for (size_t i = 0; i < samples.size(); ++i)
    if (!wanted[i]) samples[i].observation = {};
  return samples;
}

// `cache`: where the ranks keep what their references say; empty: nowhere.
void expect_one_batch(const Group& group, int size, int64_t micro_batch_size,
                      const std::filesystem::path& cache = {}) {
  for (const auto& [name, options] : objectives()) {
    if (!cache.empty() && options.needs_mismatched_logits()) continue;
    SCOPED_TRACE(concat(name, ", ", size, " samples, rank ", group.rank(), " of ", group.size()));
    Pair whole, part;
    if (!cache.empty()) part.reference.set_cache(std::make_unique<ReferenceCache>(cache, "one"));
    Learner alone(whole.policy, &whole.reference, options, 0, false);
    Learner learner(part.policy, &part.reference, options, micro_batch_size, false, &group);
    std::vector<data::Sample> first = batch_for(alone, size), second = batch_for(learner, size);
    const BatchOutcome a = alone.learn(first), b = learner.learn(second);
    EXPECT_NEAR(a.loss, b.loss, 1e-6 * std::max(1.0, std::abs(a.loss)));
    for (const auto member :
         {&BatchOutcome::z0, &BatchOutcome::z0_standard_error, &BatchOutcome::lambda_desirable,
          &BatchOutcome::lambda_undesirable, &BatchOutcome::sft_loss, &BatchOutcome::reference_kl,
          &BatchOutcome::num_pairs, &BatchOutcome::pair_accuracy, &BatchOutcome::num_unpaired}) {
      EXPECT_EQ(std::isnan(a.*member), std::isnan(b.*member));
      if (!std::isnan(a.*member)) {
        EXPECT_NEAR(a.*member, b.*member, 1e-6 * std::max(1.0, std::abs(a.*member)));
      }
    }
    EXPECT_EQ(a.num_clipped_actions, b.num_clipped_actions);
    EXPECT_TRUE(at::equal(a.mask, b.mask));
    for (const auto member :
         {&BatchOutcome::log_prob, &BatchOutcome::reference_log_prob, &BatchOutcome::reward,
          &BatchOutcome::action_l1, &BatchOutcome::weight, &BatchOutcome::lambda, &BatchOutcome::sample_loss,
          &BatchOutcome::token_log_probs, &BatchOutcome::reference_token_log_probs}) {
      EXPECT_EQ((a.*member).defined(), (b.*member).defined());
      if ((a.*member).defined()) {
        EXPECT_TRUE(at::allclose(a.*member, b.*member, 1e-6, 1e-6, /*equal_nan=*/true));
      }
    }
    const auto one = whole.policy.named_parameters(), other = part.policy.named_parameters();
    for (size_t i = 0; i < one.size(); ++i)
      EXPECT_TRUE(at::allclose(one[i].second.grad(), other[i].second.grad(), 1e-5, 1e-6)) << one[i].first;
  }
}

TEST(Ranks, EqualOneRankWithTheSameBatch) {
  for (const int64_t ranks : {2, 3}) {
    const std::vector<int> codes = run_ranks(ranks, [](Group& group) {
      expect_one_batch(group, 11, 0);  // shares of different sizes
      expect_one_batch(group, 11, 2);  // with micro-batches, too
      expect_one_batch(group, 3, 0);   // of tpo and dpo some have none
      return 0;
    });
    EXPECT_THAT(codes, Each(0)) << ranks << " ranks";
  }
}

// The way that gradients on GPUs take.
TEST(Ranks, EqualOneRankOverNccl) {
  const apo::testing::SharedNccl nccl;
  const std::vector<int> codes = run_ranks(2, [](Group& group) {
    apo::testing::use_shared_nccl();
    group.connect(at::kCPU);
    expect_one_batch(group, 11, 2);
    return 0;
  });
  EXPECT_THAT(codes, Each(0));
  EXPECT_GT(nccl.said(1).calls, 0);
}

TEST(Ranks, KeepWhatTheirReferencesSaySideBySide) {
  const apo::testing::TempDir cache;
  const std::vector<int> codes = run_ranks(2, [&](Group& group) {
    expect_one_batch(group, 11, 2, cache.path());  // the first objective fills, the others find
    return 0;
  });
  EXPECT_THAT(codes, Each(0));
  EXPECT_GE(ReferenceCache(cache.path(), "one").size(), 11);  // dpo asks of rejected actions, too
}

TEST(Ranks, HaveTheSameGradientsToTheBit) {
  const std::vector<int> codes = run_ranks(3, [](Group& group) {
    Pair pair;
    Learner learner(pair.policy, &pair.reference, {}, 0, false, &group);
    std::vector<data::Sample> samples = batch_for(learner, 10);
    learner.learn(samples);
    for (const auto& [name, tensor] : pair.policy.named_parameters()) {
      const auto* bytes = static_cast<const char*>(tensor.grad().const_data_ptr());
      const auto all = group.gather(std::string(bytes, tensor.grad().nbytes()));
      EXPECT_THAT(all, Each(all.front())) << name;
    }
    return 0;
  });
  EXPECT_THAT(codes, Each(0));
}

TEST(Ranks, TheirTimesAndMemoryAreThoseOfTheSlowestAndTheLargest) {
  const std::vector<int> codes = run_ranks(3, [](Group& group) {
    const auto rank = static_cast<double>(group.rank());
    Metrics metrics = {{"loss", 0.25},
                       {"samples_per_second", 30 - rank},
                       {"step_seconds", 1 + rank},
                       {"data_seconds", 0.5 - rank / 10},
                       {"memory_bytes", 1e9 + rank}};
    reduce(group, metrics);
    EXPECT_THAT(metrics, ElementsAre(::testing::Pair("loss", 0.25), ::testing::Pair("samples_per_second", 28),
                                     ::testing::Pair("step_seconds", 3), ::testing::Pair("data_seconds", 0.5),
                                     ::testing::Pair("memory_bytes", 1e9 + 2)));
    return 0;
  });
  EXPECT_THAT(codes, Each(0));
}

TEST(Ranks, ReferenceScoresAreOfTheWholeBatch) {
  for (const auto z0 : {objective::Z0Estimator::mismatched, objective::Z0Estimator::shifted_labels}) {
    objective::ObjectiveOptions options{.z0 = z0};
    options.reference_kl_weight = 0;
    const std::vector<int> codes = run_ranks(2, [&](Group& group) {
      Pair pair;
      PolicyItself start(pair.policy);
      Learner alone(pair.policy, nullptr, options, 0, false),
          learner(pair.policy, nullptr, options, 2, false, &group);
      std::vector<data::Sample> first = batch_for(alone, 7), second = batch_for(learner, 7);
      const auto a = alone.reference_scores(first, start), b = learner.reference_scores(second, start);
      EXPECT_TRUE(at::allclose(a.tokens, b.tokens, 1e-6, 1e-6));
      EXPECT_TRUE(at::allclose(a.mismatched, b.mismatched, 1e-6, 1e-6));
      return 0;
    });
    EXPECT_THAT(codes, Each(0));
  }
}

TEST(Ranks, SharesCoverTheBatchAndSplitNoPair) {
  const std::vector<int64_t> pairs = {-1, 0, 0, 1, 1, 1, 1, -1, 2, 2};
  for (const std::vector<int64_t>& pair : {std::vector<int64_t>{}, pairs})
    for (const int64_t ranks : {1, 2, 3, 4, 10, 13}) {
      int64_t end = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const Share share = share_of(pair, 10, rank, ranks);
        EXPECT_EQ(share.begin, end);
        EXPECT_GE(share.size(), rank == 0 ? 1 : 0);
        if (pair.empty()) {
          EXPECT_LE(share.size(), 10 / ranks + 1);
        }
        end = share.end;
        if (end > 0 && end < 10 && !pair.empty()) {
          const auto e = static_cast<size_t>(end);
          EXPECT_FALSE(pair[e] >= 0 && pair[e] == pair[e - 1]);
        }
      }
      EXPECT_EQ(end, 10);
    }
}

TEST(Ranks, RefuseOtherOptionsByKey) {
  const std::vector<int> codes = run_ranks(2, [](Group& group) {
    TrainingOptions options;
    options.run.dir = "/runs/one";
    options.run.threads = 1 + group.rank();  // free to differ
    check_same_options(group, options);
    options.objective.beta = group.is_first() ? 0.1 : 0.3;
    const std::string message = testing::message_of<ConfigError>([&] { check_same_options(group, options); });
    const auto named = AllOf(HasSubstr("rank 1"), HasSubstr("objective.beta: 0.1 -> 0.3"),
                             ::testing::Not(HasSubstr("threads")));
    EXPECT_THAT(message, group.is_first() ? ::testing::Matcher<std::string>("(nothing thrown)")
                                          : ::testing::Matcher<std::string>(named));
    return 0;
  });
  EXPECT_THAT(codes, ElementsAre(0, 0));
}

}  // namespace
}  // namespace apo::training
