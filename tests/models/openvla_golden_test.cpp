// OpenVLA against transformers, timm and peft: the numbers of scripts/goldens/make_openvla.py.
#include <gmock/gmock.h>
#include <torch/types.h>

#include "models/openvla_fixture.h"

namespace apo::models {
namespace {

using testing::distance;
using testing::OpenVlaGolden;

struct Case {
  std::string variant, adapter;
  friend void PrintTo(const Case& c, std::ostream* out) { *out << c.variant << " " << c.adapter; }
};

class OpenVlaGoldens : public ::testing::TestWithParam<Case> {
 protected:
  OpenVlaGolden golden{GetParam().variant};
  std::unique_ptr<Policy> policy = golden.policy(GetParam().adapter);
  SafetensorsReader results = golden.results(GetParam().adapter);

  at::Tensor log_probs(const at::Tensor& logits, const at::Tensor& ids) {
    return logits.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1);
  }
};

INSTANTIATE_TEST_SUITE_P(All, OpenVlaGoldens,
                         ::testing::Values(Case{"a", ""}, Case{"a", "adapter_old"}, Case{"a", "adapter_new"},
                                           Case{"b", ""}, Case{"b", "adapter_old"}, Case{"b", "adapter_new"},
                                           Case{"b", "adapter_pattern"}),
                         [](const auto& info) {
                           return info.param.variant +
                                  (info.param.adapter.empty() ? "" : "_" + info.param.adapter);
                         });

TEST_P(OpenVlaGoldens, ScoresLikeTransformers) {
  const ActionTokens tokens = golden.tokens(*policy);
  const at::Tensor logits = policy->score(golden.input(), tokens).logits.whole().detach();
  const at::Tensor expected = results.tensor("answer_logits");
  ASSERT_EQ(logits.sizes(), expected.sizes());
  EXPECT_LT(distance(logits, expected), 1e-4);
  EXPECT_LT(distance(log_probs(logits, tokens.ids), results.tensor("token_log_probs")), 1e-4);
  EXPECT_TRUE(logits.argmax(-1).equal(expected.argmax(-1)));
  EXPECT_GT(logits.std().item<double>(), 0.5);  // a golden of nearly equal logits would show nothing
}

TEST_P(OpenVlaGoldens, DecodesLikeTransformers) {
  const at::Tensor ids = policy->decode(golden.input());
  EXPECT_TRUE(ids.equal(results.tensor("greedy_ids"))) << ids << results.tensor("greedy_ids");
}

TEST_P(OpenVlaGoldens, DecodesAmongActionTokensAlone) {
  PolicyOptions options;
  options.checkpoint = (golden.directory / "checkpoint").string();
  options.of<OpenVlaOptions>().dtype = "float32";
  options.unnorm_key = golden.json["unnorm_key"];
  if (!GetParam().adapter.empty()) options.adapter = (golden.directory / GetParam().adapter).string();
  const auto restricted = make_policy(options, nullptr, 0, at::kCPU);
  const at::Tensor ids = restricted->decode(golden.input());
  EXPECT_TRUE(ids.equal(results.tensor("greedy_action_ids"))) << ids << results.tensor("greedy_action_ids");
  const at::Tensor expected = results.tensor("unnormalized_actions").to(at::kFloat);
  const std::vector<ActionChunk> actions = restricted->to_actions(ids).actions;
  for (int64_t i = 0; i < std::ssize(actions); ++i)
    EXPECT_LT(distance(torch::tensor(actions[static_cast<size_t>(i)][0]), expected[i]), 1e-5);
}

class OpenVlaAdapterGoldens : public OpenVlaGoldens {};

INSTANTIATE_TEST_SUITE_P(All, OpenVlaAdapterGoldens,
                         ::testing::Values(Case{"a", "adapter_old"}, Case{"a", "adapter_new"},
                                           Case{"b", "adapter_old"}, Case{"b", "adapter_new"},
                                           Case{"b", "adapter_pattern"}),
                         [](const auto& info) { return info.param.variant + "_" + info.param.adapter; });

TEST_P(OpenVlaAdapterGoldens, GradientsLikePeft) {
  const ActionTokens tokens = golden.tokens(*policy);
  const at::Tensor logits = policy->score(golden.input(), tokens).logits.whole();
  log_probs(logits, tokens.ids).sum().neg().backward();
  int64_t compared = 0, without = 0;
  for (const auto& [name, linear] : policy->adapter_slots()->layers()) {
    const LinearAdapter* adapter = linear->find(kTrainedSlot);
    if (adapter == nullptr) continue;
    for (const auto& [letter, tensor] : {std::pair("A", adapter->a), std::pair("B", adapter->b)}) {
      const std::string golden_name = "gradient.base_model.model." + name + ".lora_" + letter + ".weight";
      if (!results.has(golden_name)) {
        EXPECT_FALSE(tensor.grad().defined() && tensor.grad().abs().max().item<double>() > 0) << name;
        ++without;
        continue;
      }
      const at::Tensor expected = results.tensor(golden_name).reshape(tensor.sizes());
      ASSERT_TRUE(tensor.grad().defined()) << name;
      EXPECT_LT(distance(tensor.grad(), expected), 1e-3 * expected.abs().max().item<double>()) << golden_name;
      ++compared;
    }
  }
  EXPECT_EQ(without, std::ssize(golden.json["adapters"][GetParam().adapter]["without_gradient"]));
  EXPECT_GT(compared, 10);
}

TEST_P(OpenVlaGoldens, SeesPicturesAsPilMakesThem) {
  const std::vector<Observation> observations = golden.observations();
  for (size_t i = 0; i < observations.size(); ++i) {
    Observation prepared = observations[i];
    policy->prepare(prepared);
    const at::Tensor expected = golden.base.tensor("resized")[static_cast<int64_t>(i)].to(at::kInt);
    EXPECT_LE(distance(prepared.images["agentview"].to(at::kInt), expected), 1);
  }
  const PolicyInput input = policy->encode(observations);
  if (!input.images.defined()) return;  // the towers carry no adapter: they have run already
  const at::Tensor pixels = golden.base.tensor("pixel_values").view(input.images.sizes());
  EXPECT_LT(distance(input.images, pixels),
            1.01 / 255 / 0.22);  // a grey level, over the smallest deviation
}

TEST(OpenVlaGolden, PicturePatchesGoThroughTheProjector) {
  for (const char* variant : {"a", "b"}) {
    const OpenVlaGolden golden(variant);
    const auto policy = golden.policy("", {.lora = {.rank = 2, .target_modules = "q_proj"}});
    // pictures as PIL resized them need no further resizing, so that features are exact
    std::vector<Observation> observations = golden.observations();
    for (size_t i = 0; i < observations.size(); ++i)
      observations[i].images["agentview"] = golden.base.tensor("resized")[static_cast<int64_t>(i)];
    const PolicyInput input = policy->encode(observations);
    ASSERT_TRUE(input.features.defined());
    EXPECT_LT(distance(input.features, golden.base.tensor("projected")), 1e-4);
  }
}

// The recorded numbers are float32, so that one at a bin's edge may fall into the next bin.
TEST(OpenVlaGolden, ActionsBecomeTheReleasedTokens) {
  for (const char* variant : {"a", "b"}) {
    const OpenVlaGolden golden(variant);
    const auto policy = golden.policy();
    const ActionTokens tokens = policy->tokenize(golden.actions());
    const at::Tensor expected = golden.base.tensor("answer_ids"), off = (tokens.ids - expected).abs();
    EXPECT_LE(off.max().item<int64_t>(), 1) << tokens.ids << expected;
    EXPECT_LE(off.sum().item<int64_t>(), 4) << tokens.ids << expected;
    EXPECT_EQ(tokens.end_token.sum().item<int64_t>(), 4);
    EXPECT_TRUE(tokens.end_token.select(1, 7).all().item<bool>());
  }
}

TEST(OpenVlaGolden, PromptsAsTheReleasedEvaluationBuildsThem) {
  for (const char* variant : {"a", "b"}) {
    const OpenVlaGolden golden(variant);
    const PolicyInput input = golden.policy()->encode(golden.observations());
    const auto prompts = golden.json["lower_case_prompt_ids"].get<std::vector<std::vector<int64_t>>>();
    for (size_t i = 0; i < prompts.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      const at::Tensor ids = input.prompt[row].masked_select(input.prompt_mask[row]);
      EXPECT_TRUE(ids.equal(torch::tensor(prompts[i]))) << ids;
    }
  }
}

}  // namespace
}  // namespace apo::models
