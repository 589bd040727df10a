#include <gmock/gmock.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "apo/base/files.h"
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
using testing::observation;
using testing::observations;
using testing::small_policy;

TEST(SmallPolicy, ARowOfABatchIsThatObservationAlone) {
  const auto policy = small_policy();
  const auto seen = observations(1, 5);
  const auto acted = actions(1, 5);
  const at::Tensor batch =
      policy->score(policy->encode(seen), policy->tokenize(acted), nullptr).logits.whole();
  for (size_t i = 0; i < seen.size(); ++i) {
    const at::Tensor alone =
        policy->score(policy->encode({&seen[i], 1}), policy->tokenize({&acted[i], 1}), nullptr)
            .logits.whole();
    EXPECT_LT(distance(batch[static_cast<int64_t>(i)], alone[0]), 1e-5) << i;
  }
}

TEST(SmallPolicy, PromptPaddingChangesNothing) {
  const auto policy = small_policy();
  const auto seen = observations(2, 3, /*padded=*/false);
  const PolicyInput plain = policy->encode(seen);
  EXPECT_FALSE(plain.prompt_mask.defined());
  PolicyInput padded = plain;
  padded.prompt = at::cat({plain.prompt, at::full({3, 2}, 4, at::kLong)}, 1);  // padding holds any word
  padded.prompt_mask = at::cat({at::ones({3, 4}, at::kBool), at::zeros({3, 2}, at::kBool)}, 1);
  const ActionTokens tokens = policy->tokenize(actions(2, 3));
  EXPECT_LT(distance(policy->score(plain, tokens, nullptr).logits.whole(),
                     policy->score(padded, tokens, nullptr).logits.whole()),
            1e-5);
  EXPECT_TRUE(policy->decode(plain, {}).equal(policy->decode(padded, {})));
  // and the mask is what does it
  padded.prompt_mask = at::ones({3, 6}, at::kBool);
  EXPECT_GT(distance(policy->score(plain, tokens, nullptr).logits.whole(),
                     policy->score(padded, tokens, nullptr).logits.whole()),
            1e-3);
}

TEST(SmallPolicy, MismatchedLogitsEqualASeparateCall) {
  const auto policy = small_policy();
  for (const bool padded : {false, true}) {
    const PolicyInput input = policy->encode(observations(3, 4, padded));
    const ActionTokens own = policy->tokenize(actions(3, 4)), other = policy->tokenize(actions(4, 4));
    const Score both = policy->score(input, own, &other);
    EXPECT_LT(distance(both.logits.whole(), policy->score(input, own, nullptr).logits.whole()), 1e-5);
    EXPECT_LT(distance(both.mismatched_logits.whole(), policy->score(input, other, nullptr).logits.whole()),
              1e-5);
    EXPECT_GT(distance(both.logits.whole(), both.mismatched_logits.whole()), 1e-3);
    EXPECT_FALSE(policy->score(input, own, nullptr).mismatched_logits.defined());
  }
}

TEST(SmallPolicy, ATokenIsPredictedFromWhatStandsBeforeIt) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(5, 2));
  const ActionTokens tokens = policy->tokenize(actions(5, 2));
  const at::Tensor before = policy->score(input, tokens, nullptr).logits.whole();
  for (int64_t t = 0; t < 3; ++t) {
    ActionTokens changed = tokens;
    changed.ids = tokens.ids.clone();
    changed.ids.select(1, t).copy_((tokens.ids.select(1, t) + 5).remainder(16));
    const at::Tensor after = policy->score(input, changed, nullptr).logits.whole();
    EXPECT_TRUE(after.narrow(1, 0, t + 1).equal(before.narrow(1, 0, t + 1))) << t;
    if (t < 2) {
      EXPECT_GT(distance(after.select(1, t + 1), before.select(1, t + 1)), 1e-3) << t;
    }
  }
}

TEST(SmallPolicy, EveryInputMatters) {
  const auto policy = small_policy();
  const ActionTokens tokens = policy->tokenize(actions(6, 1));
  const Observation base = observation(6);
  const auto logits = [&](const Observation& seen) {
    return policy->score(policy->encode({&seen, 1}), tokens, nullptr).logits.whole();
  };
  const at::Tensor before = logits(base);
  for (const char* camera : {"front", "wrist"}) {
    Observation changed = base;
    changed.images[camera] = 255 - base.images.at(camera);
    EXPECT_GT(distance(logits(changed), before), 1e-3) << camera;
  }
  Observation changed = base;
  changed.state["height"][0] += 1;
  EXPECT_GT(distance(logits(changed), before), 1e-3);
  changed = base;
  changed.instruction = "pick the blue block";
  EXPECT_GT(distance(logits(changed), before), 1e-3);
  std::swap(changed.images["front"], changed.images["wrist"]);
  EXPECT_GT(distance(logits(changed), before), 1e-3);
}

TEST(SmallPolicy, GreedyDecodingIsTheArgmaxOfTeacherForcing) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const auto policy = small_policy(seed);
    const PolicyInput input = policy->encode(observations(seed, 6, seed % 2 == 0));
    const at::Tensor decoded = policy->decode(input, {});
    ASSERT_EQ(decoded.sizes(), at::IntArrayRef({6, 3}));
    EXPECT_FALSE(decoded.requires_grad());
    ActionTokens tokens;
    tokens.ids = decoded;
    EXPECT_TRUE(policy->score(input, tokens, nullptr).logits.whole().argmax(-1).equal(decoded)) << seed;
  }
}

// Of the rows' sampling streams.
std::vector<uint64_t> seeds(uint64_t first, size_t rows) {
  std::vector<uint64_t> out(rows);
  std::iota(out.begin(), out.end(), 1000 * first);
  return out;
}

TEST(SmallPolicy, SamplingDependsOnItsSeedAlone) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(7, 8));
  const at::Tensor first = policy->decode(input, {.temperature = 1, .seeds = seeds(11, 8)});
  at::manual_seed(5);  // the global stream has no part in it
  EXPECT_TRUE(policy->decode(input, {.temperature = 1, .seeds = seeds(11, 8)}).equal(first));
  EXPECT_FALSE(policy->decode(input, {.temperature = 1, .seeds = seeds(12, 8)}).equal(first));
  EXPECT_TRUE(
      policy->decode(input, {.temperature = 1e-4, .seeds = seeds(11, 8)}).equal(policy->decode(input, {})));
  EXPECT_THAT(message_of<ConfigError>([&] { policy->decode(input, {.temperature = -1}); }),
              HasSubstr("temperature"));
}

TEST(SmallPolicy, SamplingOfARowDependsOnNoOtherRow) {
  const auto policy = small_policy();
  const std::vector<Observation> seen = observations(7, 8);
  const std::vector<uint64_t> all = seeds(11, 8);
  const at::Tensor together = policy->decode(policy->encode(seen), {.temperature = 1, .seeds = all});
  for (size_t b = 0; b < 8; ++b) {
    const PolicyInput one = policy->encode({&seen[b], 1});
    const at::Tensor alone = policy->decode(one, {.temperature = 1, .seeds = {all[b]}});
    EXPECT_TRUE(alone[0].equal(together[static_cast<int64_t>(b)])) << b;
  }
  const PolicyInput input = policy->encode(seen);
  EXPECT_THAT(message_of<ConfigError>([&] { policy->decode(input, {.temperature = 1, .seeds = {1}}); }),
              HasSubstr("expected 8 seeds, one a row, found 1"));
}

// The first token's shares over 4,000 equal rows are those of softmax(logits / temperature), within 4
// deviations.
TEST(SmallPolicy, SamplingFollowsTheSoftmax) {
  const auto policy = small_policy();
  const Observation seen = observation(8);
  const PolicyInput one = policy->encode({&seen, 1});
  PolicyInput many;
  many.images = one.images.expand({4000, -1, -1, -1, -1});
  many.prompt = one.prompt.expand({4000, -1});
  many.state = one.state.expand({4000, -1});
  const at::Tensor ids = policy->decode(many, {.temperature = 2, .seeds = seeds(3, 4000)});
  const at::Tensor shares = at::bincount(ids.select(1, 0), {}, 16).to(at::kFloat) / 4000;
  const at::Tensor logits = policy->score(one, policy->tokenize(actions(1, 1)), nullptr).logits.whole()[0][0];
  const at::Tensor expected = (logits / 2).softmax(-1).detach();
  const at::Tensor deviation = (expected * (1 - expected) / 4000).sqrt() + 1e-6;
  EXPECT_LT(((shares - expected).abs() / deviation).max().item<double>(), 4);
}

// Statistics: q01/q99 are -0.8/0.8 and -0.4/0.6, the gripper is left alone. 16 bins: b = (a' + 1) / 2 * 15.
//   0.4 -> 2 (0.4 + 0.8) / 1.6 - 1 = 0.5 -> 11.25 -> 11;  0.1 -> 0 -> 7.5 -> 8 (to even);  -1 -> 0
//   0.9 -> 1.125, clipped to 1 -> 15;  -0.4 -> -1 -> 0;  1 -> 15
TEST(SmallPolicy, TokenizesByHand) {
  const auto policy = small_policy();
  const std::vector<Action> acted{{0.4f, 0.1f, -1.0f}, {0.9f, -0.4f, 1.0f}};
  const ActionTokens tokens = policy->tokenize(acted);
  EXPECT_TRUE(tokens.ids.equal(torch::tensor({{11, 8, 0}, {15, 0, 15}}, at::kLong))) << tokens.ids;
  EXPECT_TRUE(tokens.mask.all().item<bool>());
  EXPECT_TRUE(tokens.dimension.equal(torch::tensor({{0, 1, 2}, {0, 1, 2}}, at::kLong)));
  EXPECT_FALSE(tokens.end_token.defined());
  // Bin 11 is -1 + 22/15 = 0.4667 -> 0.4667 * 0.8 = 0.3733; bin 8 is 0.0667 -> 0.1 + 0.0667 / 2 = 0.1333.
  const std::vector<ActionChunk> back = policy->to_actions(tokens.ids).actions;
  EXPECT_NEAR(back[0][0][0], 0.37333, 1e-4);
  EXPECT_NEAR(back[0][0][1], 0.13333, 1e-4);
  EXPECT_NEAR(back[0][0][2], -1, 1e-6);
  EXPECT_NEAR(back[1][0][0], 0.8, 1e-6);
  EXPECT_NEAR(policy->detokenize(tokens.ids)[0][0][0].item<double>(), 0.46667, 1e-4);
}

// hand: (0.75 - 0.5) / 0.25 = 1, (3 + 1) / 2 = 2; height never changed in the data: 0.4 - 0.1 = 0.3.
TEST(SmallPolicy, StandardisesTheStateByHand) {
  const auto policy = small_policy();
  Observation seen = observation(9);
  seen.state["hand"] = {0.75f, 3.0f};
  seen.state["height"] = {0.4f};
  EXPECT_LT(distance(policy->encode({&seen, 1}).state, torch::tensor({{1.0f, 2.0f, 0.3f}})), 1e-6);
}

TEST(SmallPolicy, ScalesPixelsAndKeepsTheCamerasOrder) {
  const auto policy = small_policy();
  Observation seen = observation(10);
  seen.images["front"].fill_(255);
  seen.images["wrist"].zero_();
  seen.images["wrist"].index_put_({at::indexing::Slice(), 5, 2}, 51);  // column 5, blue
  const at::Tensor images = policy->encode({&seen, 1}).images;
  ASSERT_EQ(images.sizes(), at::IntArrayRef({1, 2, 3, 32, 32}));
  EXPECT_TRUE(images[0][0].equal(at::full({3, 32, 32}, 0.5f)));
  EXPECT_NEAR(images[0][1][2][7][5].item<double>(), -0.3, 1e-6);
  EXPECT_NEAR(images[0][1][2][7][6].item<double>(), -0.5, 1e-6);
}

TEST(SmallPolicy, PreparedPicturesEncodeAsRawOnes) {
  const auto policy = small_policy();
  Observation seen = observation(11);
  seen.images["front"] = at::randint(0, 256, {48, 64, 3}, at::kByte);
  seen.images["other"] = at::zeros({5, 5, 3}, at::kByte);
  Observation prepared = seen;
  policy->prepare(prepared);
  EXPECT_EQ(prepared.images.at("front").sizes(), at::IntArrayRef({32, 32, 3}));
  EXPECT_EQ(prepared.images.at("front").scalar_type(), at::kByte);
  EXPECT_EQ(prepared.images.at("other").size(0), 5);
  EXPECT_TRUE(policy->encode({&seen, 1}).images.equal(policy->encode({&prepared, 1}).images));
}

TEST(SmallPolicy, ReadsPromptsInLowerCaseWithoutPunctuation) {
  const auto policy = small_policy();
  const std::vector<Observation> seen{observation(1, "Pick the RED block!"),
                                      observation(1, "pick  the-red,block"),
                                      observation(1, "pick the green block"), observation(1, "?!")};
  const PolicyInput input = policy->encode(seen);
  EXPECT_TRUE(
      input.prompt.equal(torch::tensor({{4, 6, 5, 2}, {4, 6, 5, 2}, {4, 6, 1, 2}, {1, 0, 0, 0}}, at::kLong)));
  EXPECT_TRUE(input.prompt_mask.sum(1).equal(at::tensor({4, 4, 4, 1}, at::kLong)));
}

TEST(SmallPolicy, SlicesAreRows) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(12, 6));
  const ActionTokens tokens = policy->tokenize(actions(12, 6));
  const at::Tensor whole = policy->score(input, tokens, nullptr).logits.whole();
  const at::Tensor part = policy->score(input.slice(2, 5), tokens.slice(2, 5), nullptr).logits.whole();
  EXPECT_EQ(input.slice(2, 5).size(), 3);
  EXPECT_LT(distance(part, whole.narrow(0, 2, 3)), 1e-5);
  EXPECT_THAT(message_of<DataError>([&] { input.slice(3, 7); }), HasSubstr("[0, 6], found [3, 7)"));
}

TEST(SmallPolicy, GradientsReachEveryParameter) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(13, 6));
  policy->score(input, policy->tokenize(actions(13, 6)), nullptr).logits.whole().square().sum().backward();
  for (const auto& [name, tensor] : policy->named_parameters()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_GT(tensor.grad().abs().max().item<double>(), 0) << name;
  }
}

TEST(SmallPolicy, LearnsWhatItIsShown) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(14, 6));
  const ActionTokens tokens = policy->tokenize(actions(14, 6));
  const double before = testing::descend(*policy, input, tokens, 0.1);
  for (int step = 0; step < 200; ++step) testing::descend(*policy, input, tokens, 0.1);
  EXPECT_GT(before, 1.5);
  EXPECT_LT(testing::descend(*policy, input, tokens, 0), 0.1);
  EXPECT_TRUE(policy->decode(input, {}).equal(tokens.ids));
}

TEST(SmallPolicy, FreshWeightsDependOnTheSeedAlone) {
  const auto make = [](uint64_t seed) {
    return SmallPolicy(testing::small_shape(), testing::small_preprocessing(),
                       Vocabulary({"<pad>", "<unk>", "a", "b", "c", "d", "e"}, "test"), seed, at::kCPU);
  };
  EXPECT_EQ(parameter_hash(make(1)), parameter_hash(make(1)));
  EXPECT_NE(parameter_hash(make(1)), parameter_hash(make(2)));
  EXPECT_EQ(parameter_hash(make(1)).size(), 16u);
}

TEST(SmallPolicy, ACloneIsEqualAndIndependent) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(15, 4));
  const ActionTokens tokens = policy->tokenize(actions(15, 4));
  const auto copy = policy->clone();
  const at::Tensor before = policy->score(input, tokens, nullptr).logits.whole();
  EXPECT_TRUE(copy->score(input, tokens).logits.whole().equal(before));
  EXPECT_EQ(parameter_hash(*copy), parameter_hash(*policy));
  testing::descend(*policy, input, tokens, 0.1);
  EXPECT_TRUE(copy->score(input, tokens).logits.whole().equal(before));
  EXPECT_GT(distance(policy->score(input, tokens, nullptr).logits.whole(), before), 1e-3);
  EXPECT_NE(parameter_hash(*copy), parameter_hash(*policy));
}

TEST(SmallPolicy, ComesBackFromItsDirectoryBitEqual) {
  const apo::testing::TempDir directory;
  const auto policy = small_policy();
  policy->save(directory.path());
  for (const char* file :
       {"config.json", "preprocessor_config.json", "dataset_statistics.json", "model.safetensors"})
    EXPECT_TRUE(std::filesystem::exists(directory / file)) << file;
  EXPECT_FALSE(std::filesystem::exists(directory / "adapter_config.json"));
  const auto loaded = load_policy(directory.path(), at::kCPU);
  EXPECT_EQ(parameter_hash(*loaded), parameter_hash(*policy));
  Observation seen = observation(16);
  seen.images["front"] = at::randint(0, 256, {40, 56, 3}, at::kByte);
  const PolicyInput mine = policy->encode({&seen, 1}), theirs = loaded->encode({&seen, 1});
  EXPECT_TRUE(mine.images.equal(theirs.images));
  EXPECT_TRUE(mine.state.equal(theirs.state));
  EXPECT_TRUE(mine.prompt.equal(theirs.prompt));
  const auto acted = actions(16, 1);
  EXPECT_TRUE(policy->tokenize(acted).ids.equal(loaded->tokenize(acted).ids));
  EXPECT_TRUE(policy->score(mine, policy->tokenize(acted), nullptr)
                  .logits.whole()
                  .equal(loaded->score(theirs, loaded->tokenize(acted)).logits.whole()));
  EXPECT_EQ(policy->act(mine).actions, loaded->act(theirs).actions);
  EXPECT_EQ(trainable_parameters(*loaded).size(), loaded->named_parameters().size());
}

TEST(SmallPolicy, WritesTheSameFilesAgainAfterLoading) {
  const apo::testing::TempDir directory;
  std::filesystem::create_directory(directory / "a");
  std::filesystem::create_directory(directory / "b");
  small_policy()->save(directory / "a");
  load_policy(directory / "a", at::kCPU)->save(directory / "b");
  for (const char* file :
       {"config.json", "preprocessor_config.json", "dataset_statistics.json", "model.safetensors"})
    EXPECT_EQ(read_file(directory / "a" / file), read_file(directory / "b" / file)) << file;
}

TEST(SmallPolicy, NamesWhatAnObservationLacks) {
  const auto policy = small_policy();
  Observation seen = observation(17);
  seen.images.erase("wrist");
  EXPECT_THAT(message_of<DataError>([&] {
                policy->encode({&seen, 1});
              }),
              AllOf(HasSubstr("\"wrist\""), HasSubstr("there are: front")));
  EXPECT_THAT(message_of<DataError>([&] { policy->prepare(seen); }), HasSubstr("\"wrist\""));
  seen = observation(17);
  seen.state.erase("hand");
  EXPECT_THAT(message_of<DataError>([&] {
                policy->encode({&seen, 1});
              }),
              AllOf(HasSubstr("\"hand\""), HasSubstr("there are: height")));
  seen = observation(17);
  seen.state["hand"] = {1};
  EXPECT_THAT(message_of<DataError>([&] {
                policy->encode({&seen, 1});
              }),
              HasSubstr("\"hand\": expected 2 numbers, found 1"));
  seen.state["hand"] = {1, NAN};
  EXPECT_THAT(message_of<DataError>([&] {
                policy->encode({&seen, 1});
              }),
              HasSubstr("\"hand\"[1]: found nan"));
  EXPECT_THAT(message_of<DataError>([&] { policy->encode({}); }), HasSubstr("at least one"));
  seen = observation(17, "the the the the the the the");
  EXPECT_THAT(message_of<DataError>([&] {
                policy->encode({&seen, 1});
              }),
              HasSubstr("expected at most 6 words, found 7"));
}

TEST(SmallPolicy, RefusesPicturesOfAnotherKind) {
  const auto policy = small_policy();
  const std::vector<at::Tensor> wrong{at::zeros({32, 32, 3}), at::zeros({32, 32}, at::kByte),
                                      at::zeros({3, 32, 32}, at::kByte), at::zeros({32, 32, 4}, at::kByte),
                                      at::Tensor()};
  for (const at::Tensor& image : wrong) {
    Observation seen = observation(18);
    seen.images["front"] = image;
    EXPECT_THAT(message_of<DataError>([&] {
                  policy->encode({&seen, 1});
                }),
                HasSubstr("camera \"front\": expected a [Y, X, 3] uint8"));
    EXPECT_THAT(message_of<DataError>([&] { policy->prepare(seen); }),
                HasSubstr("camera \"front\": expected a [Y, X, 3] uint8"));
  }
}

TEST(SmallPolicy, RefusesActionsOfAnotherKind) {
  const auto policy = small_policy();
  const std::vector<Action> narrow{{0, 0}}, broken{{0, NAN, 0}};
  EXPECT_THAT(message_of<DataError>([&] { policy->tokenize(narrow); }),
              HasSubstr("expected 3 numbers, found 2"));
  EXPECT_THAT(message_of<DataError>([&] { policy->tokenize(broken); }), HasSubstr("dimension 1: found nan"));
  EXPECT_THAT(message_of<DataError>([&] {
                policy->to_actions(at::zeros({2, 4}, at::kLong));
              }),
              HasSubstr("[B, 3]"));
  EXPECT_THAT(message_of<DataError>([&] {
                policy->to_actions(at::full({2, 3}, 16, at::kLong));
              }),
              HasSubstr("found 16"));
}

TEST(SmallPolicy, RefusesInputsOfAnotherShape) {
  const auto policy = small_policy();
  const PolicyInput input = policy->encode(observations(19, 2));
  const ActionTokens tokens = policy->tokenize(actions(19, 2));
  PolicyInput wrong = input;
  wrong.images = input.images.narrow(1, 0, 1);
  EXPECT_THAT(message_of<DataError>([&] { policy->score(wrong, tokens, nullptr); }),
              HasSubstr("images: expected [2, 2, 3, 32, 32]"));
  wrong = input;
  wrong.images = input.images.to(at::kDouble);
  EXPECT_THAT(message_of<DataError>([&] { policy->decode(wrong, {}); }), HasSubstr("float32"));
  wrong = input;
  wrong.state = at::Tensor();
  EXPECT_THAT(message_of<DataError>([&] { policy->score(wrong, tokens, nullptr); }),
              HasSubstr("state: expected [2, 3], found nothing"));
  const ActionTokens more = policy->tokenize(actions(19, 3));
  EXPECT_THAT(message_of<DataError>([&] { policy->score(input, more, nullptr); }),
              HasSubstr("expected ids [2, 3], found [3, 3]"));
  EXPECT_THAT(message_of<DataError>([&] { policy->score(input, tokens, &more); }), HasSubstr("mismatched"));
}

}  // namespace
}  // namespace apo::models
