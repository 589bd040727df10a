// The built-in policy that decides several steps at once.
#include <gmock/gmock.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/models/description.h"
#include "models/small/policy.h"
#include "models/small_world.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using testing::actions;
using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::message_of;
using testing::observations;

constexpr int64_t kHorizon = 4;

std::unique_ptr<SmallPolicy> policy_of(int64_t horizon, uint64_t seed = 1) {
  SmallShape shape = testing::small_shape();
  shape.horizon = horizon;
  auto policy = std::make_unique<SmallPolicy>(
      shape, testing::small_preprocessing(),
      Vocabulary({"<pad>", "<unk>", "block", "blue", "pick", "red", "the"}, "test"), seed, at::kCPU);
  testing::randomize(*policy, seed);
  return policy;
}

// Of `steps` actions each.
std::vector<ActionChunk> chunks(uint64_t seed, int64_t count, int64_t steps) {
  std::vector<ActionChunk> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(actions(seed * 100 + static_cast<uint64_t>(i), steps));
  return all;
}

at::Tensor logits_of(Policy& policy, const PolicyInput& input, const ActionTokens& tokens) {
  return policy.score(input, tokens).logits.whole();
}

// 0.4 -> 11, 0.1 -> 8, -1 -> 0, 0.9 -> 15, -0.4 -> 0, 1 -> 15, as a policy of one step codes them.
TEST(SmallChunks, AreCodedActionByAction) {
  const auto policy = policy_of(2);
  const std::vector<ActionChunk> acted{{{0.4f, 0.1f, -1}, {0.9f, -0.4f, 1}}, {{0.9f, -0.4f, 1}}};
  const ActionTokens tokens = policy->tokenize(acted);
  EXPECT_TRUE(tokens.ids.equal(torch::tensor({{11, 8, 0, 15, 0, 15}, {15, 0, 15, 15, 0, 15}}, at::kLong)));
  EXPECT_TRUE(tokens.mask.equal(torch::tensor({{1, 1, 1, 1, 1, 1}, {1, 1, 1, 0, 0, 0}}).to(at::kBool)));
  EXPECT_TRUE(tokens.valid.equal(torch::tensor({{1, 1}, {1, 0}}).to(at::kBool)));
  EXPECT_TRUE(tokens.dimension[0].equal(at::tensor({0, 1, 2, 0, 1, 2}, at::kLong)));
  EXPECT_EQ(policy->to_actions(tokens.ids).actions[0].size(), 2u);
}

// With the weights of a policy of one step and more positions, the first step is what that one says.
TEST(SmallChunks, TheFirstStepIsThatOfAPolicyOfOneStep) {
  const auto one = policy_of(1), many = policy_of(kHorizon, 2);
  {
    const at::NoGradGuard no_grad;
    const NamedTensors from = one->named_parameters(), to = many->named_parameters();
    for (size_t i = 0; i < from.size(); ++i)
      at::Tensor(to[i].second).narrow(0, 0, from[i].second.size(0)).copy_(from[i].second);
  }
  const PolicyInput input = one->encode(observations(3, 5));
  const auto acted = chunks(3, 5, kHorizon);
  std::vector<Action> first;
  for (const ActionChunk& chunk : acted) first.push_back(chunk.front());
  const at::Tensor whole = logits_of(*many, input, many->tokenize(acted));
  EXPECT_EQ(whole.sizes(), at::IntArrayRef({5, 3 * kHorizon, 16}));
  EXPECT_LT(distance(whole.narrow(1, 0, 3), logits_of(*one, input, one->tokenize(first))), 1e-5);
  EXPECT_TRUE(many->decode(input, {}).narrow(1, 0, 3).equal(one->decode(input, {})));
}

// A step's scores know of the steps before it and of none behind it: a chunk can be cut.
TEST(SmallChunks, ACutChunkScoresAsTheBeginningOfTheWhole) {
  const auto policy = policy_of(kHorizon);
  const PolicyInput input = policy->encode(observations(4, 3));
  const auto whole = chunks(4, 3, kHorizon);
  const at::Tensor before = logits_of(*policy, input, policy->tokenize(whole));
  for (int64_t steps = 1; steps < kHorizon; ++steps) {
    auto cut = whole;
    for (ActionChunk& chunk : cut) chunk.resize(static_cast<size_t>(steps));
    const ActionTokens tokens = policy->tokenize(cut);
    EXPECT_TRUE(tokens.mask.sum(1).eq(3 * steps).all().item<bool>());
    const at::Tensor after = logits_of(*policy, input, tokens);
    EXPECT_TRUE(after.narrow(1, 0, 3 * steps).equal(before.narrow(1, 0, 3 * steps))) << steps;
    EXPECT_GT(distance(after.narrow(1, 3 * steps + 1, 1), before.narrow(1, 3 * steps + 1, 1)), 1e-3) << steps;
  }
}

TEST(SmallChunks, GreedyDecodingIsTheArgmaxOfTeacherForcing) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const auto policy = policy_of(kHorizon, seed);
    const PolicyInput input = policy->encode(observations(seed, 6, seed % 2 == 0));
    ActionTokens tokens;
    tokens.ids = policy->decode(input, {});
    ASSERT_EQ(tokens.ids.sizes(), at::IntArrayRef({6, 3 * kHorizon}));
    EXPECT_TRUE(logits_of(*policy, input, tokens).argmax(-1).equal(tokens.ids)) << seed;
  }
}

TEST(SmallChunks, MismatchedLogitsEqualASeparateCall) {
  const auto policy = policy_of(kHorizon);
  const PolicyInput input = policy->encode(observations(5, 4, true));
  const ActionTokens own = policy->tokenize(chunks(5, 4, kHorizon)),
                     other = policy->tokenize(chunks(6, 4, kHorizon - 1));
  const Score both = policy->score(input, own, &other);
  EXPECT_LT(distance(both.logits.whole(), logits_of(*policy, input, own)), 1e-5);
  EXPECT_LT(distance(both.mismatched_logits.whole(), logits_of(*policy, input, other)), 1e-5);
}

TEST(SmallChunks, LearnsWhatItIsShown) {
  const auto policy = policy_of(2);
  const PolicyInput input = policy->encode(observations(7, 4));
  const ActionTokens tokens = policy->tokenize(chunks(7, 4, 2));
  for (int step = 0; step < 300; ++step) testing::descend(*policy, input, tokens, 0.1);
  EXPECT_TRUE(policy->decode(input, {}).equal(tokens.ids));
}

TEST(SmallChunks, ACheckpointSaysItsHorizonAndAConfigMayNotContradictIt) {
  const apo::testing::TempDir directory;
  const auto policy = policy_of(kHorizon);
  policy->save(directory.path());
  const auto loaded = load_policy(directory.path(), at::kCPU);
  EXPECT_EQ(loaded->horizon(), kHorizon);
  const PolicyInput input = policy->encode(observations(8, 2));
  EXPECT_EQ(policy->act(input).actions, loaded->act(input).actions);
  EXPECT_EQ(policy->clone()->horizon(), kHorizon);

  PolicyOptions options{.checkpoint = directory.path().string()};
  for (const int64_t agreed : {int64_t{0}, kHorizon}) {
    options.of<SmallOptions>().horizon = agreed;
    EXPECT_EQ(make_policy(options, nullptr, 0, at::kCPU)->horizon(), kHorizon);
  }
  options.of<SmallOptions>().horizon = 1;
  const auto complaint = AllOf(HasSubstr("policy.small.horizon: is 1"), HasSubstr("config.json: horizon 4"));
  EXPECT_THAT(message_of<ConfigError>([&] { make_policy(options, nullptr, 0, at::kCPU); }), complaint);
  EXPECT_THAT(message_of<ConfigError>([&] { describe_policy(options); }), complaint);
  options.of<SmallOptions>().horizon = 0;
  options.execute_steps = kHorizon + 1;
  EXPECT_THAT(message_of<ConfigError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("policy.execute_steps: expected at most 4"));
}

// Those of earlier releases do not say it, and are as they were.
TEST(SmallChunks, ACheckpointThatSaysNothingDecidesOneStep) {
  const apo::testing::TempDir directory;
  const auto policy = policy_of(1);
  policy->save(directory.path());
  auto json = nlohmann::ordered_json::parse(read_file(directory / "config.json"));
  ASSERT_EQ(json.erase("horizon"), 1u);
  write_file_atomic(directory / "config.json", json.dump());
  const auto older = load_policy(directory.path(), at::kCPU);
  EXPECT_EQ(older->horizon(), 1);
  EXPECT_EQ(parameter_hash(*older), parameter_hash(*policy));
  for (const int64_t wrong : {0, -1, 1025}) {
    json["horizon"] = wrong;
    write_file_atomic(directory / "config.json", json.dump());
    EXPECT_THAT(message_of<DataError>([&] { load_policy(directory.path(), at::kCPU); }),
                HasSubstr("config.json: horizon"));
  }
}

}  // namespace
}  // namespace apo::models
