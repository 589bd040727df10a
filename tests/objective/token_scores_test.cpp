// The loss of logits in pieces is that of the same logits in one tensor, with all its gradients, whatever the objective
// reads; and nothing as large as the logits is kept.
#include <gmock/gmock.h>

#include "apo/config/options.h"
#include "objective/all_options.h"
#include "objective/batch.h"

namespace apo::objective {
namespace {

using testing::distance;
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
      if (options.needs_reference()) kept = reference_scores(input, options, reference.score(reference_bytes));
      const ScoredBatch scored =
          score(static_cast<const Batch&>(input), options, policy.score(policy_bytes), kept, {.greedy = true});
      const ObjectiveOutput out = evaluate(scored, measure(scored));
      out.loss.backward();
      return std::vector<at::Tensor>{out.loss.detach(), policy.hidden.grad(), policy.weight.grad(), out.token_log_probs,
                                     scored.scores.greedy};
    };
    const int64_t row = 11 * 4, all = 1 << 20;
    const auto whole = run(all, all);
    for (const auto& [of_policy, of_reference] : std::vector<std::pair<int64_t, int64_t>>{
             {5 * row, 5 * row}, {row, 7 * row}, {5 * row, all}, {all, 5 * row}}) {
      const auto pieces = run(of_policy, of_reference);
      for (size_t i = 0; i < whole.size(); ++i)
        EXPECT_LT(distance(pieces[i], whole[i]), 1e-11) << "result " << i << " of " << config::print(ObjectiveOptions(options));
    }
  }
}

// 2,400 rows of 5,000 logits are 48 MB; what the head makes at a time is 200 kB.
TEST(TokenScores, NothingAsLargeAsTheLogitsIsKept) {
  const int64_t samples = 24, tokens = 100, vocabulary = 5000;
  Batch batch;
  batch.tokens = at::randint(0, vocabulary, {samples, tokens}, at::kLong);
  const at::Tensor hidden = at::randn({samples, tokens, 4}).set_requires_grad(true), weight = at::randn({vocabulary, 4});
  int64_t largest = 0;
  const Logits logits(hidden, vocabulary, [&](const at::Tensor& rows) {
    const at::Tensor made = at::linear(rows, weight);
    largest = std::max<int64_t>(largest, static_cast<int64_t>(made.nbytes()));
    return made;
  }, 10 * vocabulary * 4);
  ObjectiveOptions options;
  options.type = ObjectiveType::sft;
  const ScoredBatch scored = score(batch, options, {logits, {}}, {});
  evaluate(scored, measure(scored)).loss.backward();
  EXPECT_EQ(largest, 10 * vocabulary * 4);
  EXPECT_GT(hidden.grad().abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace apo::objective
