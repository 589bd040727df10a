// Logits made piece by piece: the same numbers and gradients as in one tensor, and none of them kept.
#include "apo/base/logits.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "support/near.h"

namespace apo {
namespace {

constexpr int64_t kVocabulary = 7, kRowBytes = kVocabulary * 4;

struct Head {
  at::Tensor hidden = at::randn({3, 4, 5}, at::kDouble).set_requires_grad(true);
  at::Tensor weight = at::randn({kVocabulary, 5}, at::kDouble).set_requires_grad(true);
  Logits logits(int64_t piece_bytes) const {
    return {hidden, kVocabulary,
            [weight = weight](const at::Tensor& rows) { return at::linear(rows, weight); }, piece_bytes};
  }
};

at::Tensor log_probs(const Logits::Piece& piece, const at::Tensor& tokens) {
  return piece.logits.log_softmax(-1).gather(-1, piece.of(tokens).unsqueeze(-1)).squeeze(-1);
}

TEST(Logits, ATensorIsReadAsItIs) {
  const at::Tensor whole = at::randn({2, 3, kVocabulary});
  const Logits logits = whole;
  EXPECT_TRUE(logits.defined());
  EXPECT_FALSE(logits.in_pieces());
  EXPECT_TRUE(logits.whole().is_same(whole));
  int64_t readings = 0;
  logits.read([&](const Logits::Piece& piece) {
    ++readings;
    EXPECT_TRUE(piece.whole && piece.logits.is_same(whole));
    EXPECT_EQ(piece.end, 6);
    return piece.logits.select(-1, 0);
  });
  EXPECT_EQ(readings, 1);
  EXPECT_FALSE(Logits().defined());
  EXPECT_EQ(Logits().sizes().size(), 0u);
}

TEST(Logits, FewAreMadeAtOnceAndManyWhenTheyAreRead) {
  const Head head;
  EXPECT_FALSE(head.logits(12 * kRowBytes).in_pieces());
  const Logits many = head.logits(12 * kRowBytes - 1);
  EXPECT_TRUE(many.in_pieces());
  EXPECT_EQ(many.sizes(), at::IntArrayRef({3, 4, kVocabulary}));
  EXPECT_TRUE(many.whole().equal(head.logits(12 * kRowBytes).whole()));
  EXPECT_TRUE(many.slice(1, 3).whole().equal(many.whole().slice(0, 1, 3)));
}

// Pieces of 5, 5 and 2 rows, of 1 row, and of more than there are.
TEST(Logits, PiecesEqualTheWhole) {
  const Head head;
  const at::Tensor tokens = at::randint(0, kVocabulary, {3, 4}, at::kLong),
                   upstream = at::randn({3, 4}, at::kDouble);
  const auto gradients = [&](const Logits& logits, std::vector<int64_t>& rows) {
    const at::Tensor found = logits.read([&rows, tokens](const Logits::Piece& piece) {
      rows.push_back(piece.repeated ? -1 : piece.end - piece.begin);
      return log_probs(piece, tokens);
    });
    EXPECT_EQ(found.sizes(), tokens.sizes());
    for (const at::Tensor& leaf : {head.hidden, head.weight}) leaf.mutable_grad() = at::Tensor();
    (found * upstream).sum().backward();
    return std::vector<at::Tensor>{found.detach(), head.hidden.grad().clone(), head.weight.grad().clone()};
  };
  std::vector<int64_t> rows;
  const auto expected = gradients(head.logits(1 << 20), rows);
  EXPECT_EQ(rows, std::vector<int64_t>({12}));
  for (const int64_t bytes : {5 * kRowBytes, kRowBytes, int64_t{1}}) {
    rows.clear();
    const auto found = gradients(head.logits(bytes), rows);
    for (size_t i = 0; i < 3; ++i) EXPECT_LT(apo::testing::distance(found[i], expected[i]), 1e-12) << i;
    if (bytes == 5 * kRowBytes) {
      EXPECT_EQ(rows, std::vector<int64_t>({5, 5, 2, -1, -1, -1}));
    }
  }
}

TEST(Logits, TheSameRowsOfOtherLogits) {
  const Head head, other;
  for (const int64_t bytes : {5 * kRowBytes, int64_t{1} << 20})
    head.logits(5 * kRowBytes).read([&](const Logits::Piece& piece) {
      const at::Tensor rows = piece.of(other.logits(bytes));
      EXPECT_TRUE(rows.allclose(
          other.logits(1 << 20).whole().flatten(0, 1).slice(0, piece.begin, piece.end).unsqueeze(0)));
      return piece.logits.select(-1, 0);
    });
}

TEST(Logits, DetachedOnesHaveNoGradient) {
  const Head head;
  for (const int64_t bytes : {5 * kRowBytes, int64_t{1} << 20}) {
    const Logits logits = head.logits(bytes).detach();
    EXPECT_FALSE(logits.whole().requires_grad());
    const at::Tensor other = at::ones({3, 4}, at::kDouble).set_requires_grad(true);
    const at::Tensor read =
        logits.read([&](const Logits::Piece& piece) { return piece.logits.select(-1, 0) * piece.of(other); });
    read.sum().backward();
    EXPECT_TRUE(other.grad().defined());
    EXPECT_FALSE(head.hidden.grad().defined() || head.weight.grad().defined()) << bytes;
  }
}

}  // namespace
}  // namespace apo
