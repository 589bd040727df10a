// OpenVLA-OFT with discrete tokens: the numbers of scripts/goldens/make_openvla_oft.py, and what holds
// without them.
#include <gmock/gmock.h>
#include <torch/types.h>

#include <fstream>
#include <map>

#include "apo/models/description.h"
#include "apo/models/export.h"
#include "apo/models/reference.h"
#include "models/openvla_oft_fixture.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OftGolden;
namespace fs = std::filesystem;

at::Tensor log_probs(const at::Tensor& logits, const ActionTokens& tokens) {
  return logits.log_softmax(-1)
      .gather(-1, tokens.ids.unsqueeze(-1))
      .squeeze(-1)
      .masked_fill(tokens.mask.logical_not(), 0);
}

class OftGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  OftGolden golden{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, OftGoldens, ::testing::Values("a", "b"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(OftGoldens, ScoresLikeTransformers) {
  const auto policy = golden.policy();
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const at::Tensor off =
      ((tokens.ids + policy->first_id()) - golden.base.tensor("target_ids")).masked_select(tokens.mask);
  EXPECT_EQ(off.abs().sum().item<int64_t>(), 0) << tokens.ids;
  EXPECT_FALSE(tokens.end_token.defined());
  const at::Tensor logits =
      policy->score(policy->encode(golden.observations()), tokens).logits.whole().detach();
  const at::Tensor expected = golden.base.tensor("logits");
  ASSERT_EQ(logits.sizes(), expected.sizes());
  EXPECT_LT(distance(logits, expected), 2.5e-4);  // of 7: float32 both, sums in another order
  EXPECT_LT(distance(log_probs(logits, tokens), golden.base.tensor("token_log_probs")), 1e-4);
  EXPECT_GT((expected.narrow(1, 1, 1) - expected.narrow(1, 0, 1)).abs().max().item<double>(), 0.5)
      << "places that are alike would hide a shift";
}

TEST_P(OftGoldens, DecodesLikeTransformers) {
  for (const bool restricted : {true, false}) {
    PolicyOptions options = golden.options();
    options.of<OpenVlaOptions>().action_tokens_only = restricted;
    const auto policy = golden.policy(options);
    const Decision decision = policy->act(policy->encode(golden.observations()));
    const at::Tensor expected = golden.base.tensor(restricted ? "decoded_ids" : "free_ids");
    EXPECT_TRUE((decision.ids + policy->first_id()).equal(expected));
    const int64_t among = expected.ge(policy->first_id() + policy->codec().bins()->first)
                              .logical_and(expected.le(policy->first_id() + policy->codec().bins()->last))
                              .sum()
                              .item<int64_t>();
    EXPECT_EQ(decision.num_clamped, expected.numel() - among);
    EXPECT_EQ(decision.num_clamped == 0, restricted);
    if (!restricted) continue;
    const at::Tensor actions = golden.base.tensor("decoded_actions").to(at::kFloat);
    for (int64_t i = 0; i < actions.size(0); ++i)
      for (int64_t h = 0; h < actions.size(1); ++h)
        EXPECT_LT(distance(torch::tensor(decision.actions[static_cast<size_t>(i)][static_cast<size_t>(h)]),
                           actions[i][h]),
                  2e-4);
  }
}

TEST_P(OftGoldens, SaysHowLikelyEachDecidedTokenWas) {
  PolicyOptions options = golden.options();
  options.of<OpenVlaOptions>().action_tokens_only = true;
  const auto policy = golden.policy(options);
  const PolicyInput input = policy->encode(golden.observations());
  std::vector<at::Tensor> found;
  policy->decode(input, {.token_probs = &found});
  const auto bins = policy->codec().bins();
  const at::Tensor expected = policy->score(input, policy->tokenize(golden.chunks()))
                                  .logits.whole()
                                  .narrow(-1, bins->first, bins->last - bins->first + 1)
                                  .softmax(-1)
                                  .amax(-1);
  ASSERT_EQ(std::ssize(found), policy->horizon() * policy->action_size());
  EXPECT_LT(distance(at::stack(found, 1), expected.detach()), 1e-5);
}

TEST_P(OftGoldens, AdaptersScoreAndLearnLikePeft) {
  const auto policy = golden.policy("adapter_new");
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const PolicyInput input = policy->encode(golden.observations());
  EXPECT_TRUE(
      (policy->decode(input) + policy->first_id()).equal(golden.base.tensor("with_adapter.decoded_ids")));
  const at::Tensor scores = log_probs(policy->score(input, tokens).logits.whole(), tokens);
  EXPECT_LT(distance(scores.detach(), golden.base.tensor("with_adapter.token_log_probs")), 1e-4);
  scores.sum().neg().backward();
  int64_t compared = 0;
  for (const auto& [name, linear] : policy->adapter_slots()->layers()) {
    const LinearAdapter* adapter = linear->find(kTrainedSlot);
    if (adapter == nullptr) continue;
    for (const auto& [letter, tensor] : {std::pair("A", adapter->a), std::pair("B", adapter->b)}) {
      const std::string key = "gradient.base_model.model." + name + ".lora_" + letter + ".weight";
      if (!golden.base.has(key)) {
        EXPECT_FALSE(tensor.grad().defined() && tensor.grad().abs().max().item<double>() > 0) << name;
        continue;
      }
      const at::Tensor expected = golden.base.tensor(key).reshape(tensor.sizes());
      ASSERT_TRUE(tensor.grad().defined()) << name;
      EXPECT_LT(distance(tensor.grad(), expected), 1e-3 * expected.abs().max().item<double>()) << key;
      ++compared;
    }
  }
  EXPECT_GT(compared, 60);
}

TEST_P(OftGoldens, PromptsKeepTheirUnderscores) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  for (int64_t i = 0; i < input.size(); ++i) {
    const at::Tensor ids = input.prompt[i].masked_select(input.prompt_mask[i]);
    const auto expected = golden.json["prompt_ids"][static_cast<size_t>(i)].get<std::vector<int64_t>>();
    EXPECT_TRUE(ids.equal(torch::tensor(expected))) << i;
  }
}

// The tokens are no input, so that one pass says all there is of a second answer.
TEST_P(OftGoldens, ASecondAnswerCostsNothingAndScoresAsItsOwn) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  ActionTokens other = tokens;
  other.ids = tokens.ids.roll(-1, 0);
  const Score both = policy->score(input, tokens, &other);
  EXPECT_TRUE(both.mismatched_logits.whole().is_same(both.logits.whole()));
  EXPECT_TRUE(both.logits.whole().equal(policy->score(input, other).logits.whole()));
}

TEST_P(OftGoldens, ASampleScoresAloneAsInABatchOfUnequalPrompts) {
  const auto policy = golden.policy("adapter_new");
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const at::Tensor together =
      policy->score(policy->encode(golden.observations()), tokens).logits.whole().detach();
  for (int64_t i = 0; i < together.size(0); ++i) {
    const Observation one = golden.observations()[static_cast<size_t>(i)];
    const at::Tensor alone =
        policy->score(policy->encode({&one, 1}), tokens.slice(i, i + 1)).logits.whole().detach();
    EXPECT_LT(distance(alone[0], together[i]), 5e-4) << i;
  }
}

TEST_P(OftGoldens, DrawsEachRowFromItsOwnSeed) {
  const auto policy = golden.policy();
  const PolicyInput input = policy->encode(golden.observations());
  const std::vector<uint64_t> seeds{1, 2, 3, 4}, same(4, 1);
  const at::Tensor drawn = policy->decode(input, {.temperature = 1, .seeds = seeds});
  EXPECT_TRUE(drawn.equal(policy->decode(input, {.temperature = 1, .seeds = seeds})));
  EXPECT_TRUE(drawn[0].equal(policy->decode(input, {.temperature = 1, .seeds = same})[0]));
  EXPECT_FALSE(drawn[1].equal(policy->decode(input, {.temperature = 1, .seeds = same})[1]));
  EXPECT_TRUE(policy->decode(input, {.temperature = 1e-6, .seeds = seeds}).equal(policy->decode(input)));
}

// Swapped pictures, another state and a missing end token are other numbers.
TEST(Oft, EverythingInTheSequenceCounts) {
  const OftGolden golden("a");
  const auto policy = golden.policy();
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const auto scores = [&](Policy& of, const std::vector<Observation>& seen) {
    return of.score(of.encode(seen), tokens).logits.whole().detach();
  };
  const std::vector<Observation> seen = golden.observations();
  const at::Tensor whole = scores(*policy, seen);
  PolicyOptions swapped = golden.options(), endless = swapped;
  std::swap(swapped.cameras[0], swapped.cameras[1]);
  endless.of<OpenVlaOptions>().stop_token = "false";
  EXPECT_GT(distance(whole, scores(*golden.policy(swapped), seen)), 0.1);
  EXPECT_GT(distance(whole, scores(*golden.policy(endless), seen)), 0.1);
  std::vector<Observation> moved = seen;
  for (Observation& observation : moved) observation.state["eef_pos"][1] += 0.5f;
  EXPECT_GT(distance(whole, scores(*policy, moved)), 0.01);
}

TEST(Oft, TheReferenceIsTheStartingAdapterAndTheProjectorNeverTrains) {
  const OftGolden golden("a");
  const auto policy = golden.policy("adapter_new");
  Reference reference(*policy, {.mode = ReferenceMode::adapter}),
      copy(*policy, {.mode = ReferenceMode::copy});
  const PolicyInput input = policy->encode(golden.observations());
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const at::Tensor before = policy->score(input, tokens).logits.whole().detach();
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : trainable_parameters(*policy)) at::Tensor(tensor).mul_(1.5);
  }
  EXPECT_LT(distance(reference.score(input, tokens).logits.whole(), before), 2e-5);
  EXPECT_LT(distance(copy.score(input, tokens).logits.whole(), before), 2e-5);
  EXPECT_GT(distance(policy->score(input, tokens).logits.whole(), before), 0.1);
  for (const auto& [name, tensor] : policy->named_parameters())
    EXPECT_THAT(name, ::testing::Not(HasSubstr("proprio")));
}

// A checkpoint of ours says of itself what the user had to say of the first one.
TEST_P(OftGoldens, WhatWasSavedNeedsNoWords) {
  const auto policy = golden.policy("adapter_new");
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const auto scores = [&](Policy& of) {
    return of.score(of.encode(golden.observations()), tokens).logits.whole().detach();
  };
  const at::Tensor before = scores(*policy);
  const apo::testing::TempDir adapter, whole;
  policy->save(adapter.path());
  PolicyOptions bare{.checkpoint = adapter.path().string()};
  bare.of<OpenVlaOptions>().dtype = "float32";
  EXPECT_TRUE(scores(*make_policy(bare, nullptr, 0, at::kCPU)).equal(before));
  const auto description = describe_policy(bare);
  ASSERT_TRUE(description.has_value());
  EXPECT_EQ(description->cameras, golden.options().cameras);
  EXPECT_EQ(description->state_keys, golden.options().state_keys);

  // the same adapter beside its base by name
  PolicyOptions beside{.checkpoint = golden.checkpoint().string(), .adapter = adapter.path().string()};
  beside.of<OpenVlaOptions>().dtype = "float32";
  EXPECT_TRUE(scores(*make_policy(beside, nullptr, 0, at::kCPU)).equal(before));

  // merged by the exporter: the state projector goes along
  export_checkpoint(adapter.path(), {}, whole.path() / "merged", {.dtype = "float32"});
  PolicyOptions merged{.checkpoint = (whole.path() / "merged").string()};
  EXPECT_LT(distance(scores(*make_policy(merged, nullptr, 0, at::kCPU)), before), 5e-4);

  // merged by ourselves: it is among the weights, and frozen
  merge_adapter(*policy);
  fs::create_directory(whole.path() / "own");
  policy->save(whole.path() / "own");
  merged.checkpoint = (whole.path() / "own").string();
  const auto again = make_policy(merged, nullptr, 0, at::kCPU);
  EXPECT_LT(distance(scores(*again), before), 5e-4);
  const auto config = nlohmann::json::parse(read_file(whole.path() / "own" / "config.json"));
  EXPECT_EQ(config["apo"]["chunk_steps"], golden.json["settings"]["chunk_steps"]);
  EXPECT_EQ(config.contains("use_proprio"), !golden.options().state_keys.empty());
}

TEST_P(OftGoldens, ChunksAreCutAndNeverPaddedWithScores) {
  const auto policy = golden.policy();
  const ActionTokens tokens = policy->tokenize(golden.chunks());
  const auto steps = golden.json["steps"].get<std::vector<int64_t>>();
  for (size_t i = 0; i < steps.size(); ++i)
    EXPECT_EQ(tokens.mask[static_cast<int64_t>(i)].sum().item<int64_t>(), 7 * steps[i]);
  EXPECT_EQ(policy->codec().max_length(), policy->horizon() * 7);
  EXPECT_EQ(policy->execute_steps(), policy->horizon());
}

// By hand: 0.25 in a dimension that never changes is 0, the middle; min and max are the ends.
TEST(Oft, BoundsAreTheEnds) {
  const OftGolden golden("a");
  const auto policy = golden.policy();
  const auto& s = policy->normalizer().statistics();
  Action low, high;
  for (size_t j = 0; j < 7; ++j)
    low.push_back(static_cast<float>(s.min[j])), high.push_back(static_cast<float>(s.max[j]));
  const at::Tensor ids = policy->tokenize(std::vector<ActionChunk>{{low, high}}).ids;
  EXPECT_EQ(ids[0][4].item<int64_t>(), 256 - 128);  // 0 lies between edges 128 and 129
  for (const int64_t j : {0, 1, 2, 3, 5}) {
    EXPECT_GE(ids[0][j].item<int64_t>(), 254) << j;
    EXPECT_LE(ids[0][7 + j].item<int64_t>(), 1) << j;
  }
}

TEST(Oft, AGripperOfAnotherCodingIsAnError) {
  const OftGolden golden("a");
  const auto policy = golden.policy();
  std::vector<ActionChunk> chunks = golden.chunks();
  chunks[1][0][6] = -1;
  EXPECT_THAT(message_of<DataError>([&] { policy->tokenize(chunks); }),
              AllOf(HasSubstr("dimension 6: found -1"), HasSubstr("0..1"), HasSubstr("gripper")));
}

}  // namespace
}  // namespace apo::models
