// What a policy is put together from, with chunks of three steps: tokens, validity and distances by hand.
#include "apo/models/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "apo/base/error.h"
#include "support/chunk_policy.h"
#include "support/message_of.h"

namespace apo::models {
namespace {

using apo::testing::ChunkPolicy;
using apo::testing::message_of;
using ::testing::HasSubstr;

const std::vector<ActionChunk> kChunks{{{-1, 1}, {0, 0.5f}, {-0.5f, -3}}, {{0.5f, 2}}};

TEST(Policy, CodesChunksAndFillsUpShortOnes) {
  const ChunkPolicy policy;
  const ActionTokens tokens = policy.tokenize(kChunks);
  EXPECT_TRUE(tokens.ids.equal(at::tensor({0, 4, 2, 3, 1, 0, 3, 4, 3, 4, 3, 4}, at::kLong).view({2, 6})))
      << tokens.ids;
  const at::Tensor mask =
      at::tensor({1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, at::kLong).view({2, 6}).to(at::kBool);
  EXPECT_TRUE(tokens.mask.equal(mask));
  EXPECT_TRUE(tokens.valid.equal(at::tensor({1, 1, 1, 1, 0, 0}, at::kLong).view({2, 3}).to(at::kBool)));
  EXPECT_EQ(tokens.num_clipped, 2);  // -3 and 2, what fills up not counted
  const ActionTokens second = tokens.slice(1, 2);
  EXPECT_TRUE(second.mask.equal(mask.narrow(0, 1, 1)));
  EXPECT_TRUE(second.valid.equal(tokens.valid.narrow(0, 1, 1)));
  EXPECT_FALSE(policy.tokenize(std::span(kChunks).first(1)).valid.defined());  // whole ones say nothing
}

TEST(Policy, GivesBackChunks) {
  const ChunkPolicy policy;
  const Decision decision = policy.to_actions(policy.tokenize(kChunks).ids);
  EXPECT_EQ(decision.actions[0], (ActionChunk{{-1, 1}, {0, 0.5f}, {-0.5f, -1}}));
  EXPECT_EQ(decision.actions[1], (ActionChunk{{0.5f, 1}, {0.5f, 1}, {0.5f, 1}}));
  EXPECT_EQ(decision.num_clamped, 0);
}

TEST(PolicyInput, RowsAreChosenInAnyOrderAndMoreThanOnce) {
  const at::Tensor row = at::arange(3, at::kFloat).view({3, 1});
  const PolicyInput input = {.images = row.view({3, 1, 1, 1, 1}),
                             .prompt = row.to(at::kLong),
                             .prompt_mask = row.gt(0),
                             .state = row + 10,
                             .features = row.view({3, 1, 1}) + 20,
                             .origin = row.to(at::kDouble) + 30,
                             .room = row.flatten().to(at::kLong) + 40};
  const std::vector<int64_t> rows = {2, 0, 0};
  const PolicyInput chosen = input.select(rows);
  EXPECT_EQ(chosen.size(), 3);
  for (const auto part :
       {&PolicyInput::images, &PolicyInput::prompt, &PolicyInput::prompt_mask, &PolicyInput::state,
        &PolicyInput::features, &PolicyInput::origin, &PolicyInput::room})
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t from = rows[static_cast<size_t>(i)];
      EXPECT_TRUE(at::equal((chosen.*part).slice(0, i, i + 1), (input.*part).slice(0, from, from + 1)));
      EXPECT_EQ((chosen.*part).scalar_type(), (input.*part).scalar_type());
    }
  EXPECT_FALSE(PolicyInput{.state = row}.select({1}).images.defined());
}

// Steps that are not there count for nothing: 0.25 is the mean of |1 - 0.5| and 0 over the one step of the
// second chunk.
TEST(Policy, DistancesAreOverTheStepsThatThereAre) {
  const ChunkPolicy policy;
  const ActionTokens tokens = policy.tokenize(kChunks);
  at::Tensor predicted = tokens.ids.clone();
  predicted[0][0] = 4;                   // 1 in place of -1: 2 of six numbers
  predicted[1][0] = 4;                   // 1 in place of 0.5
  predicted[1].slice(0, 2, 6).fill_(0);  // not valid
  const at::Tensor distance = action_l1(policy, predicted, tokens);
  EXPECT_NEAR(distance[0].item<double>(), 2.0 / 6, 1e-6);
  EXPECT_NEAR(distance[1].item<double>(), 0.25, 1e-6);
}

TEST(Policy, RefusesWhatIsNoChunk) {
  const ChunkPolicy policy;
  const auto complaint = [&](const ActionChunk& chunk) {
    return message_of<DataError>([&] { policy.tokenize(std::vector<ActionChunk>{chunk}); });
  };
  EXPECT_THAT(complaint({}), HasSubstr("actions: expected a chunk of 1 to 3, found 0"));
  EXPECT_THAT(complaint({{0, 0}, {0, 0}, {0, 0}, {0, 0}}), HasSubstr("found 4"));
  EXPECT_THAT(complaint({{0, 0}, {0}}), HasSubstr("action: expected 2 numbers, found 1"));
  EXPECT_THAT(complaint({{0, NAN}}), HasSubstr("dimension 1: found nan"));
  EXPECT_THAT(message_of<ConfigError>([] {
                struct Broken : Policy {
                  Broken()
                      : Policy({.codec = std::make_shared<tokenizers::BinCodec>(tokenizers::ActionBins(2), 2),
                                .normalizer = tokenizers::Normalizer(3),
                                .vocabulary_size = 2}) {}
                  PolicyInput encode(std::span<const Observation>) const override { return {}; }
                  Score score(const PolicyInput&, const ActionTokens&, const ActionTokens*) override {
                    return {};
                  }
                  at::Tensor decode(const PolicyInput&, const DecodeOptions&) override { return {}; }
                  NamedTensors named_parameters() const override { return {}; }
                  std::unique_ptr<Policy> clone() const override { return nullptr; }
                  void save(const std::filesystem::path&) const override {}
                } broken;
              }),
              HasSubstr("a codec and a normaliser of one action size, found 2 and 3"));
}

}  // namespace
}  // namespace apo::models
