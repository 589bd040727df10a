// The sequence that every token policy reads, by hand, and the one decoder, over a network that tells what it
// was asked.
#include "models/sequence/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>

#include "apo/base/error.h"
#include "models/sequence/decoder.h"
#include "support/message_of.h"

namespace apo::models {
namespace {

at::Tensor rows_of(std::vector<std::vector<int64_t>> rows) {
  std::vector<at::Tensor> all;
  for (const auto& row : rows) all.push_back(at::tensor(row, at::kLong));
  return at::stack(all);
}

// [1, 1, T, K] additive -> 1 where seen
at::Tensor seen(const AttentionMask& mask) { return mask.additive[0][0].eq(0).to(at::kLong); }

TEST(SequenceLayout, AnswersSeeThePrefixAndTheirOwnPast) {
  const SequenceLayout layout({}, 2, at::kCPU, PrefixAttention::causal, {2, 1});
  EXPECT_EQ(layout.size(), 5);
  EXPECT_TRUE(
      seen(layout.whole(at::kFloat))
          .equal(rows_of(
              {{1, 0, 0, 0, 0}, {1, 1, 0, 0, 0}, {1, 1, 1, 0, 0}, {1, 1, 1, 1, 0}, {1, 1, 0, 0, 1}})));
  EXPECT_TRUE(layout.positions(0, 5).equal(rows_of({{0, 1, 2, 3, 2}})));
  EXPECT_TRUE(layout.positions(3, 5).equal(rows_of({{3, 2}})));
  const SequenceLayout full({}, 2, at::kCPU, PrefixAttention::full, {2});
  EXPECT_TRUE(
      seen(full.whole(at::kFloat)).equal(rows_of({{1, 1, 0, 0}, {1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}})));
  EXPECT_TRUE(layout.prefill(at::kFloat).causal);
  EXPECT_FALSE(full.prefill(at::kFloat).causal);
}

// Padding in the middle, as OpenVLA's prompts have it: hidden, but from itself, and without a position.
TEST(SequenceLayout, PaddingIsHiddenAndHasNoPosition) {
  const SequenceLayout layout(rows_of({{1, 0, 1}}).to(at::kBool), 3, at::kCPU, PrefixAttention::causal, {2});
  EXPECT_TRUE(
      seen(layout.whole(at::kFloat))
          .equal(rows_of(
              {{1, 0, 0, 0, 0}, {1, 1, 0, 0, 0}, {1, 0, 1, 0, 0}, {1, 0, 1, 1, 0}, {1, 0, 1, 1, 1}})));
  EXPECT_TRUE(layout.positions(0, 5).equal(rows_of({{0, 0, 1, 2, 3}})));
  EXPECT_TRUE(seen(layout.prefill(at::kFloat)).equal(rows_of({{1, 0, 0}, {1, 1, 0}, {1, 0, 1}})));
  EXPECT_TRUE(seen(layout.step(1, at::kFloat)).equal(rows_of({{1, 0, 1, 1, 1}})));
}

TEST(SequenceLayout, WhichRowsPredict) {
  const SequenceLayout layout({}, 2, at::kCPU, PrefixAttention::causal, {2, 1, 0});
  const at::Tensor columns = at::arange(5, at::kLong).view({1, 5, 1});
  // from the prefix's last on
  const auto behind = layout.predicting(columns.narrow(1, 1, 4), /*with_prefix=*/true);
  ASSERT_EQ(behind.size(), 3u);
  EXPECT_TRUE(behind[0].flatten().equal(at::tensor({1, 2, 3}, at::kLong)));
  EXPECT_TRUE(behind[1].flatten().equal(at::tensor({1, 4}, at::kLong)));
  EXPECT_TRUE(behind[2].flatten().equal(at::tensor(std::vector<int64_t>{1}, at::kLong)));
  const auto own = layout.predicting(columns.narrow(1, 2, 3), /*with_prefix=*/false);
  EXPECT_TRUE(own[0].flatten().equal(at::tensor({2, 3}, at::kLong)));
  EXPECT_TRUE(own[1].flatten().equal(at::tensor(std::vector<int64_t>{4}, at::kLong)));
}

TEST(PaddedIds, AtTheEndOrBehindTheFirst) {
  const std::vector<std::vector<int64_t>> prompts{{1, 5, 6}, {1, 7}};
  EXPECT_TRUE(pad_right(prompts, 0).ids.equal(rows_of({{1, 5, 6}, {1, 7, 0}})));
  EXPECT_TRUE(pad_right(prompts, 0).mask.equal(rows_of({{1, 1, 1}, {1, 1, 0}}).to(at::kBool)));
  EXPECT_TRUE(pad_behind_first(prompts, 2).ids.equal(rows_of({{1, 5, 6}, {1, 2, 7}})));
  EXPECT_TRUE(pad_behind_first(prompts, 2).mask.equal(rows_of({{1, 1, 1}, {1, 0, 1}}).to(at::kBool)));
  EXPECT_FALSE(pad_right(std::vector<std::vector<int64_t>>{{1, 2}, {3, 4}}, 0).mask.defined());
}

// A row's one number is what it stands for. The logits say: the sum of all that the last row sees, modulo 10,
// comes next.
class Summing final : public SequenceNetwork {
 public:
  at::Tensor embed(const at::Tensor& ids, int64_t t) const override {
    embedded.push_back(t);
    return ids.to(at::kFloat).unsqueeze(-1);
  }
  at::Tensor run(at::Tensor x, const Rows& rows, int64_t first_row,
                 std::vector<KeyValueCache>* caches) const override {
    positions.push_back(rows.positions().clone());
    // [B, K, 1]
    const at::Tensor values = (*caches)[0].append(x.unsqueeze(1), x.unsqueeze(1)).first.squeeze(1);
    const int64_t keys = values.size(1), count = x.size(1);
    at::Tensor sees = at::ones({1, count, keys});
    if (rows.mask.causal) sees = sees.tril(keys - count);
    if (rows.mask.additive.defined()) sees = rows.mask.additive.squeeze(1).eq(0).to(at::kFloat);
    return at::matmul(sees, values).narrow(1, first_row, count - first_row);
  }
  std::vector<KeyValueCache> make_caches(int64_t batch, int64_t room) const override {
    return {{at::empty({batch, 1, room, 1}), at::empty({batch, 1, room, 1})}};
  }
  at::Tensor logits(const at::Tensor& rows, int64_t begin, int64_t end) const override {
    const at::Tensor next = rows.remainder(10);
    return -(at::arange(begin, end, at::kFloat) - next).abs();
  }
  mutable std::vector<int64_t> embedded;
  mutable std::vector<at::Tensor> positions;
};

at::Tensor prefix(std::vector<std::vector<int64_t>> rows) {
  return rows_of(std::move(rows)).to(at::kFloat).unsqueeze(-1);
}

TEST(Decoder, FromThePrefixsLastRow) {
  const Summing network;
  // 1 + 2 = 3; 3 + 3 = 6; 6 + 6 = 12 -> 2
  const at::Tensor ids =
      decode(network, {.prefix = prefix({{1, 2}}), .steps = 3, .ids = {0, 9}, .choose = token_chooser({})});
  EXPECT_TRUE(ids.equal(rows_of({{3, 6, 2}})));
  EXPECT_THAT(network.embedded, ::testing::ElementsAre(0, 1));
  EXPECT_TRUE(network.positions[0].equal(rows_of({{0, 1}})));
  EXPECT_TRUE(network.positions[2].equal(rows_of({{3}})));
}

TEST(Decoder, FromARowOfItsOwn) {
  const Summing network;
  // 1 + 2 + 4 = 7; 7 + 7 = 14 -> 4
  const at::Tensor ids = decode(network, {.prefix = prefix({{1, 2}}),
                                          .begin = prefix({{4}}),
                                          .attention = PrefixAttention::full,
                                          .steps = 2,
                                          .ids = {0, 9},
                                          .choose = token_chooser({})});
  EXPECT_TRUE(ids.equal(rows_of({{7, 4}})));
  EXPECT_THAT(network.embedded, ::testing::ElementsAre(1));
}

TEST(Decoder, AmongSomeIdsAlone) {
  const at::Tensor ids =
      decode(Summing(), {.prefix = prefix({{1, 2}}), .steps = 2, .ids = {5, 8}, .choose = token_chooser({})});
  EXPECT_TRUE(ids.equal(rows_of({{5, 8}})));  // 3 is not among them, 5 is nearest; 3 + 5
}

// Each row ends with its own stop token, padding behind it, and decoding ends with the last row.
TEST(Decoder, EveryRowStopsByItself) {
  const Summing network;
  const Decoding decoding{.prefix = prefix({{1, 2}, {0, 6}, {1, 0}}),
                          .steps = 6,
                          .ids = {0, 9},
                          .stop = 6,
                          .padding = 9,
                          .choose = token_chooser({})};
  // 3, 6 | 6 | 1, 2, 4, 8, 6
  EXPECT_TRUE(decode(network, decoding).equal(rows_of({{3, 6, 9, 9, 9}, {6, 9, 9, 9, 9}, {1, 2, 4, 8, 6}})));
  Decoding alone = decoding;  // whoever shares the batch
  alone.prefix = decoding.prefix.narrow(0, 0, 1);
  EXPECT_TRUE(decode(network, alone).equal(rows_of({{3, 6}})));
  Decoding short_one = decoding;
  short_one.steps = 3;
  EXPECT_TRUE(decode(network, short_one).equal(rows_of({{3, 6, 9}, {6, 9, 9}, {1, 2, 4}})));
}

TEST(Decoder, SaysHowLikelyWhatItChoseWas) {
  std::vector<at::Tensor> probs;
  const Decoding decoding{.prefix = prefix({{1, 2}, {1, 3}}),
                          .steps = 2,
                          .ids = {2, 4},
                          .stop = 3,
                          .padding = 9,
                          .choose = token_chooser({.token_probs = &probs})};
  EXPECT_TRUE(decode(Summing(), decoding).equal(rows_of({{3, 9}, {4, 4}})));
  ASSERT_EQ(probs.size(), 2u);
  EXPECT_NEAR(probs[0][0].item<double>(), 1 / (1 + 2 * std::exp(-1)), 1e-6);             // 3 of 2, 3, 4
  EXPECT_NEAR(probs[0][1].item<double>(), 1 / (1 + std::exp(-1) + std::exp(-2)), 1e-6);  // 4 of them
  EXPECT_TRUE(std::isnan(probs[1][0].item<double>()));                                   // it has ended
  EXPECT_NEAR(probs[1][1].item<double>(), 1 / (1 + std::exp(-1) + std::exp(-2)), 1e-6);  // 8, nearest is 4
}

// Whatever the draft says, what is decided is what is decided without; how many passes it takes depends on
// the first wrong token alone: 3, 6, 2, 4, 8 follow on 1, 2.
TEST(Decoder, ADraftChangesHowManyPassesItTakesAndNothingElse) {
  const Decoding plain{.prefix = prefix({{1, 2}}), .steps = 5, .ids = {0, 9}, .choose = token_chooser({})};
  const at::Tensor expected = decode(Summing(), plain);
  EXPECT_TRUE(expected.equal(rows_of({{3, 6, 2, 4, 8}})));
  const auto passes = [&](const std::vector<int64_t>& draft) {
    const Summing network;
    Decoding decoding = plain;
    decoding.draft = rows_of({draft});
    EXPECT_TRUE(decode(network, decoding).equal(expected)) << decoding.draft;
    return network.positions.size();
  };
  EXPECT_EQ(passes({3, 6, 2, 4, 8}), 1u);
  EXPECT_EQ(passes({3, 6, 2, 4, 0}), 1u);  // the last one is fed to nobody
  EXPECT_EQ(passes({3, 6, 2, 5, 8}), 2u);
  EXPECT_EQ(passes({0, 6, 2, 4, 8}), 2u);  // 3 is found, and the rest looked at again behind it
  EXPECT_EQ(passes({0, 0, 0, 0, 0}), 5u);
  EXPECT_EQ(passes({3, 0, 2, 0, 8}), 3u);
}

// With a row of its own, padding, a prefix that sees itself whole, and rows of the batch that leave the draft
// at different places.
TEST(Decoder, ADraftInEveryLayout) {
  for (const bool begin : {false, true})
    for (const PrefixAttention attention : {PrefixAttention::causal, PrefixAttention::full}) {
      std::vector<at::Tensor> probs, drafted_probs;
      Decoding decoding{.prefix = prefix({{1, 2}, {5, 2}, {7, 1}}),
                        .attention = attention,
                        .valid = rows_of({{1, 1}, {0, 1}, {1, 1}}).to(at::kBool),
                        .steps = 6,
                        .ids = {0, 9},
                        .choose = token_chooser({.token_probs = &probs})};
      if (begin) decoding.begin = prefix({{4}, {1}, {9}});
      const at::Tensor expected = decode(Summing(), decoding);
      decoding.choose = token_chooser({.token_probs = &drafted_probs});
      decoding.draft = expected.clone();
      decoding.draft[0][4] = 1, decoding.draft[1][1] = 0, decoding.draft[2][3] = 5;
      const Summing network;
      EXPECT_TRUE(decode(network, decoding).equal(expected));
      EXPECT_LE(network.positions.size(), 4u);
      ASSERT_EQ(drafted_probs.size(), probs.size());
      for (size_t t = 0; t < probs.size(); ++t) EXPECT_TRUE(drafted_probs[t].allclose(probs[t])) << t;
    }
}

TEST(Decoder, PaddingInThePrefixIsNotThere) {
  const at::Tensor ids = decode(Summing(), {.prefix = prefix({{1, 2}, {5, 2}}),
                                            .valid = rows_of({{1, 1}, {0, 1}}).to(at::kBool),
                                            .steps = 2,
                                            .ids = {0, 9},
                                            .choose = token_chooser({})});
  EXPECT_TRUE(ids.equal(rows_of({{3, 6}, {2, 4}})));
}

}  // namespace
}  // namespace apo::models
