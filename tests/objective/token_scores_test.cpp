// The loss of logits in pieces is that of the same logits in one tensor, with all its gradients, whatever the
// objective reads; and nothing as large as the logits is kept.
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gmock/gmock.h>

#include <memory>

#include "apo/config/options.h"
#include "base/peak_memory.h"
#include "objective/all_options.h"
#include "objective/batch.h"

namespace apo::objective {
namespace {

using testing::distance;
using ::testing::HasSubstr;
using testing::message_of;
using testing::random_batch;

constexpr int64_t kHidden = 6;

// A policy or reference whose head is a linear layer.
struct Answers {
  at::Tensor hidden, mismatched_hidden, weight;
  explicit Answers(const ObjectiveInput& input, bool trains) {
    const auto shape = input.tokens.sizes();
    hidden = at::randn({shape[0], shape[1], kHidden}, at::kDouble).set_requires_grad(trains);
    mismatched_hidden = at::randn({shape[0], shape[1], kHidden}, at::kDouble).set_requires_grad(trains);
    weight = at::randn({11, kHidden}, at::kDouble).set_requires_grad(trains);
  }
  Score score(int64_t piece_bytes) const {
    const auto head = [weight = weight](const at::Tensor& rows) { return at::linear(rows, weight); };
    return {{hidden, 11, head, piece_bytes}, {mismatched_hidden, 11, head, piece_bytes}};
  }
};

TEST(TokenScores, PiecesEqualTheWhole) {
  const ObjectiveInput input = [] {
    ObjectiveInput batch = random_batch();
    batch.pair = at::tensor({0, 1, 0, 1, -1, -1}, at::kLong);
    return batch;
  }();
  const Answers policy(input, true), reference(input, false);
  for (const ObjectiveOptions& options : testing::all_options()) {
    const auto run = [&](int64_t policy_bytes, int64_t reference_bytes) {
      for (const at::Tensor& leaf : {policy.hidden, policy.weight}) leaf.mutable_grad() = at::Tensor();
      ReferenceScores kept;
      if (options.needs_reference())
        kept = reference_scores(input, options, reference.score(reference_bytes));
      const auto read = [&](Reading reading) {
        return score(static_cast<const Batch&>(input), options, policy.score(policy_bytes), kept, reading);
      };
      const ScoredBatch scored = read({.greedy = true});
      const BatchStatistics apart = measure(read({.loss = false}));  // as micro-batches have them
      EXPECT_LT(distance(apart.sums, measure(scored).sums), 1e-11);
      const ObjectiveOutput out = evaluate(scored, measure(scored));
      EXPECT_LT(distance(evaluate(read({.statistics = false}), apart).loss, out.loss), 1e-11);
      out.loss.backward();
      return std::vector<at::Tensor>{out.loss.detach(), policy.hidden.grad(), policy.weight.grad(),
                                     out.token_log_probs, scored.scores.greedy};
    };
    const int64_t row = 11 * 4, all = 1 << 20;
    const auto whole = run(all, all);
    for (const auto& [of_policy, of_reference] : std::vector<std::pair<int64_t, int64_t>>{
             {5 * row, 5 * row}, {row, 7 * row}, {5 * row, all}, {all, 5 * row}}) {
      const auto pieces = run(of_policy, of_reference);
      for (size_t i = 0; i < whole.size(); ++i)
        EXPECT_LT(distance(pieces[i], whole[i]), 1e-11)
            << "result " << i << " of " << config::print(ObjectiveOptions(options));
    }
  }
}

// What was read for the one is not taken for the other: a z0 of 0, say, that nobody measured.
TEST(TokenScores, AReadingForSomethingElseIsRefused) {
  const ObjectiveInput input = random_batch();
  for (const ObjectiveOptions& options : {ObjectiveOptions{}, ObjectiveOptions{.z0 = Z0Estimator::exact}}) {
    EXPECT_THAT(message_of<RunError>([&] { measure(score(input, options, {.statistics = false})); }),
                HasSubstr("read for its statistics"));
    EXPECT_THAT(message_of<RunError>(
                    [&] { evaluate(score(input, options, {.loss = false}), measure(input, options)); }),
                HasSubstr("read for its loss"));
  }
}

TEST(TokenScores, ErrorsNameWhoseLogitsAndWhichToken) {
  ObjectiveInput input = random_batch();
  const auto reference = [&](const at::Tensor& logits) {
    return message_of<RunError>([&] { reference_scores(input, {}, {logits, {}}); });
  };
  EXPECT_THAT(reference({}), HasSubstr("reference_logits: expected [samples, tokens, vocabulary]"));
  EXPECT_THAT(reference(at::zeros({6, 4})), HasSubstr("reference_logits"));
  // in pieces of one row as in one tensor: sample 4, position 2
  input.tokens[4][2] = 11;
  const at::Tensor hidden = at::zeros({6, 4, 2}, at::kDouble);
  for (const int64_t bytes : {1, 1 << 20}) {
    const Logits logits(
        hidden, 11,
        [](const at::Tensor& rows) {
          return at::zeros({rows.size(0), rows.size(1), 11}, at::kDouble);
        },
        bytes);
    EXPECT_THAT(message_of<DataError>([&] {
                  score(static_cast<const Batch&>(input),
                        {.type = ObjectiveType::sft, .reference_kl_weight = 0}, {logits, {}}, {});
                }),
                HasSubstr("tokens[4, 2]: expected a token of the vocabulary 0..10, found 11"));
  }
}

// 2,400 rows of 5,000 logits are 48 MB; what the head makes at a time is 200 kB.
TEST(TokenScores, NothingAsLargeAsTheLogitsIsKept) {
  const int64_t samples = 24, tokens = 100, vocabulary = 5000;
  Batch batch;
  batch.tokens = at::randint(0, vocabulary, {samples, tokens}, at::kLong);
  const at::Tensor hidden = at::randn({samples, tokens, 4}).set_requires_grad(true),
                   weight = at::randn({vocabulary, 4});
  const Logits logits(
      hidden, vocabulary, [&](const at::Tensor& rows) { return at::linear(rows, weight); },
      10 * vocabulary * 4);
  ObjectiveOptions options;
  options.type = ObjectiveType::sft;
  const auto memory = std::make_shared<PeakMemory>(at::kCPU);
  {
    const c10::DebugInfoGuard follow(c10::DebugInfoKind::PROFILER_STATE, memory);
    const ScoredBatch scored = score(batch, options, {logits, {}}, {});
    evaluate(scored, measure(scored)).loss.backward();
  }
  EXPECT_LT(memory->peak_bytes(), 2'000'000);  // 48 MB, were they kept
  EXPECT_GT(hidden.grad().abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace apo::objective
