// Chunks of actions as answers: ids, masks and dimensions by hand.
#include "apo/tokenizers/action_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "support/message_of.h"

namespace apo::tokenizers {
namespace {

using apo::testing::message_of;
using ::testing::HasSubstr;

at::Tensor ids(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).unsqueeze(0); }

TEST(ActionCodec, BinsStepByStep) {
  const BinCodec codec(ActionBins(5), /*action_size=*/2, /*horizon=*/3);  // bins -1, -0.5, 0, 0.5, 1
  const at::Tensor actions = at::tensor({-1.0, 1.0, 0.0, 0.5, -0.5, -0.5}, at::kDouble).view({1, 3, 2});
  const CodedActions coded = codec.encode(actions);
  EXPECT_TRUE(coded.ids.equal(ids({0, 4, 2, 3, 1, 1})));
  EXPECT_TRUE(coded.mask.all().item<bool>());
  EXPECT_FALSE(coded.end_token.defined());
  EXPECT_TRUE(coded.dimension.equal(ids({0, 1, 0, 1, 0, 1})));
  const DecodedActions back = codec.decode(coded.ids);
  EXPECT_TRUE(back.actions.equal(actions.to(at::kFloat)));
  EXPECT_TRUE(back.decoded.all().item<bool>());
  EXPECT_EQ(codec.bins(), (TokenRange{0, 4}));
  EXPECT_EQ(codec.max_length(), 6);
}

// A chunk of which only two steps are there: the third codes something, and counts for nothing.
TEST(ActionCodec, StepsThatAreNotValidAreMasked) {
  const at::Tensor valid = at::tensor(std::vector<int64_t>{1, 1, 0}, at::kLong).to(at::kBool).unsqueeze(0);
  const at::Tensor actions = at::zeros({1, 3, 2}, at::kDouble);
  EXPECT_TRUE(
      BinCodec(ActionBins(5), 2, 3).encode(actions, valid).mask.equal(ids({1, 1, 1, 1, 0, 0}).to(at::kBool)));
  const VocabularyBinCodec codec(VocabularyActionBins(32, 8), /*end_token=*/2, 2, 3);
  const CodedActions coded = codec.encode(actions, valid);
  EXPECT_TRUE(coded.mask.equal(ids({1, 1, 1, 1, 0, 0, 1}).to(at::kBool)));
  EXPECT_TRUE(coded.end_token.equal(ids({0, 0, 0, 0, 0, 0, 1}).to(at::kBool)));
  EXPECT_TRUE(coded.dimension.equal(ids({0, 1, 0, 1, 0, 1, -1})));
  EXPECT_EQ(coded.ids[0][6].item<int64_t>(), 2);
  EXPECT_EQ(codec.max_length(), 7);
}

TEST(ActionCodec, NoEndTokenWhereThereIsNone) {
  const at::Tensor actions = at::linspace(-1, 1, 6, at::kDouble).view({1, 3, 2});
  const VocabularyActionBins bins(8, 8);  // all ids are actions': 0 to 7, counted downwards
  const VocabularyBinCodec codec(bins, std::nullopt, 2, 3);
  const CodedActions coded = codec.encode(actions, at::tensor({1, 0, 0}).to(at::kBool).view({1, 3}));
  EXPECT_EQ(codec.max_length(), 6);
  EXPECT_FALSE(coded.end_token.defined());
  EXPECT_EQ(coded.ids[0][0].item<int64_t>(), 7);
  EXPECT_EQ(coded.ids[0][5].item<int64_t>(), 0);
  EXPECT_EQ(coded.mask.sum().item<int64_t>(), 2);
  EXPECT_TRUE(coded.dimension.equal(at::tensor({0, 1, 0, 1, 0, 1}, at::kLong).view({1, 6})));
  EXPECT_LT((codec.decode(coded.ids).actions - actions).abs().max().item<double>(), 1.0 / 7 + 1e-6);
  EXPECT_TRUE(codec.decode(coded.ids - 20).num_clamped.eq(6).all().item<bool>());  // ids below the first
}

TEST(ActionCodec, ClampsAndCountsWhatIsNoActionToken) {
  const VocabularyBinCodec codec(VocabularyActionBins(32, 8), 2, 2);  // ids 24 to 31
  EXPECT_EQ(codec.bins(), (TokenRange{24, 31}));
  // an id below the range counts as the highest centre, one above it as the lowest
  const DecodedActions found = codec.decode(at::tensor({31, 25, 40, 2}, at::kLong).view({2, 2}));
  EXPECT_TRUE(found.num_clamped.equal(at::tensor({0, 2}, at::kLong)));
  EXPECT_TRUE(found.actions[1].equal(found.actions[0]));
  EXPECT_LT(found.actions[0][0][0].item<double>(), -0.8);
  EXPECT_GT(found.actions[0][0][1].item<double>(), 0.8);
}

TEST(ActionCodec, RefusesOtherShapes) {
  const BinCodec codec(ActionBins(5), 2, 3);
  EXPECT_THAT(message_of<DataError>([&] {
                codec.encode(at::zeros({1, 2, 2}, at::kDouble));
              }),
              HasSubstr("actions: expected [B, 3, 2], found [1, 2, 2]"));
  EXPECT_THAT(message_of<DataError>([&] {
                codec.encode(at::zeros({1, 3, 2}, at::kDouble), at::ones({1, 2}, at::kBool));
              }),
              HasSubstr("valid steps of actions: expected [1, 3], found [1, 2]"));
  EXPECT_THAT(message_of<DataError>([&] {
                codec.decode(at::zeros({1, 5}, at::kLong));
              }),
              HasSubstr("action tokens: expected [B, 6], found [1, 5]"));
  EXPECT_THAT(message_of<ConfigError>([] { BinCodec(ActionBins(5), 2, 0); }), HasSubstr("found 0 of 2"));
}

}  // namespace
}  // namespace apo::tokenizers
