// Laws of OpenVLA as a policy: padding, shared prefixes, recomputation, references, directories.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "apo/models/reference.h"
#include "apo/pictures/transforms.h"
#include "models/openvla/network.h"
#include "models/openvla_fixture.h"
#include "models/sequence/layers.h"
#include "support/hollow_file.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OpenVlaGolden;
using testing::with;
namespace fs = std::filesystem;

const OpenVlaGolden& golden() {
  static const OpenVlaGolden instance("b");
  return instance;
}

TEST(OpenVlaShape, TheReleasedModelHasItsTensors) {
  OpenVlaNetwork network(OpenVlaShape::released(), at::TensorOptions(at::kBFloat16).device(at::kMeta));
  const NamedTensors parameters = collect_parameters(network, ParameterKind::base);
  EXPECT_EQ(parameters.size(), 982u);
  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, int64_t> parts;
  int64_t total = 0;
  for (const auto& [name, tensor] : parameters) {
    shapes[name] = tensor.sizes().vec();
    total += tensor.numel();
    for (const char* part : {"vision_backbone.featurizer.", "vision_backbone.fused_featurizer.", "projector.",
                             "language_model."})
      if (name.starts_with(part)) parts[part] += tensor.numel();
  }
  EXPECT_EQ(total, 7541237184);
  EXPECT_EQ(parts["vision_backbone.featurizer."], 303230976);
  EXPECT_EQ(parts["vision_backbone.fused_featurizer."], 427680704);
  EXPECT_EQ(parts["projector."], 71385600);
  EXPECT_EQ(parts["language_model."], 6738939904);
  using Shape = std::vector<int64_t>;
  EXPECT_EQ(shapes.at("vision_backbone.featurizer.pos_embed"), (Shape{1, 256, 1024}));
  EXPECT_EQ(shapes.at("vision_backbone.featurizer.reg_token"), (Shape{1, 4, 1024}));
  EXPECT_EQ(shapes.at("vision_backbone.featurizer.patch_embed.proj.weight"), (Shape{1024, 3, 14, 14}));
  EXPECT_EQ(shapes.at("vision_backbone.featurizer.blocks.23.ls2.scale_factor"), (Shape{1024}));
  EXPECT_EQ(shapes.at("vision_backbone.fused_featurizer.blocks.26.mlp.fc2.weight"), (Shape{1152, 4304}));
  EXPECT_EQ(shapes.at("vision_backbone.fused_featurizer.attn_pool.kv.weight"), (Shape{2304, 1152}));
  EXPECT_EQ(shapes.at("projector.fc1.weight"), (Shape{8704, 2176}));
  EXPECT_EQ(shapes.at("language_model.model.layers.31.mlp.down_proj.weight"), (Shape{4096, 11008}));
  EXPECT_EQ(shapes.at("language_model.lm_head.weight"), (Shape{32064, 4096}));
}

// The number that OpenVLA's fine-tuning prints.
TEST(OpenVlaShape, AllLinearAdaptersOfRank32HaveTheReleasedSize) {
  OpenVlaNetwork network(OpenVlaShape::released(), at::TensorOptions(at::kBFloat16).device(at::kMeta));
  AdapterSlots slots;
  SlotAttacher attach(slots);
  network.visit(attach);
  int64_t parameters = 0;
  for (const auto& [name, linear] : slots.layers())
    parameters += 32 * (linear->in_features() + linear->out_features());
  EXPECT_EQ(slots.layers().size(), 439u);
  EXPECT_EQ(parameters, 110828288);
}

TEST(OpenVla, ASampleScoresAloneAsInABatchOfUnequalPrompts) {
  const auto policy = golden().policy("adapter_old");
  const ActionTokens tokens = golden().tokens(*policy);
  const at::Tensor together =
      policy->score(policy->encode(golden().observations()), tokens).logits.whole().detach();
  for (int64_t i = 0; i < together.size(0); ++i) {
    const Observation one = golden().observations()[static_cast<size_t>(i)];
    const PolicyInput input = policy->encode(std::span(&one, 1));
    EXPECT_FALSE(input.prompt_mask.defined());
    const at::Tensor alone = policy->score(input, tokens.slice(i, i + 1)).logits.whole().detach();
    EXPECT_LT(distance(alone[0], together[i]), 2e-5) << i;
  }
}

TEST(OpenVla, ASecondAnswerScoresAsIfItWereAlone) {
  const auto policy = golden().policy("adapter_new");
  const PolicyInput input = policy->encode(golden().observations());
  const ActionTokens tokens = golden().tokens(*policy);
  ActionTokens other = tokens;
  other.ids = tokens.ids.roll(-1, 0);
  const Score both = policy->score(input, tokens, &other);
  EXPECT_LT(distance(both.logits.whole(), policy->score(input, tokens).logits.whole()), 2e-5);
  EXPECT_LT(distance(both.mismatched_logits.whole(), policy->score(input, other).logits.whole()), 2e-5);
  EXPECT_GT(distance(both.logits.whole(), both.mismatched_logits.whole()), 0.1);
}

TEST(OpenVla, DecodedTokensAreTheArgmaxOfScoringThem) {
  const auto policy = golden().policy("adapter_old");
  const PolicyInput input = policy->encode(golden().observations());
  ActionTokens tokens;
  tokens.ids = policy->decode(input);
  EXPECT_TRUE(policy->score(input, tokens).logits.whole().argmax(-1).equal(tokens.ids));
}

// The second decision has the first as a draft, right as it is, of other observations, or of another batch.
TEST(OpenVla, SpeculativeDecodingDecidesTheSame) {
  const OpenVlaGolden golden("a");
  const auto plain = golden.policy("adapter_new");
  const auto drafting = golden.policy("adapter_new", with({.speculative = true}));
  const std::vector<Observation> seen = golden.observations();
  ASSERT_GE(seen.size(), 2u);
  const std::span<const Observation> all = seen;
  for (const auto& batch : {all, all, all.subspan(0, 1), all.subspan(1, 1), all.subspan(0, 1), all}) {
    const PolicyInput input = plain->encode(batch);
    EXPECT_TRUE(drafting->decode(input).equal(plain->decode(input)));
  }
  const DecodeOptions drawn{.temperature = 1, .seeds = {3}};
  const PolicyInput input = plain->encode(all.subspan(0, 1));
  EXPECT_TRUE(drafting->decode(input, drawn).equal(plain->decode(input, drawn)));
}

TEST(OpenVla, SamplingIsRepeatableAndFollowsTheTemperature) {
  const auto policy = golden().policy("adapter_old");
  const PolicyInput input = policy->encode(golden().observations());
  const auto rows = static_cast<size_t>(input.size());
  const std::vector<uint64_t> three(rows, 3), four(rows, 4);
  const at::Tensor first = policy->decode(input, {.temperature = 1, .seeds = three});
  EXPECT_TRUE(first.equal(policy->decode(input, {.temperature = 1, .seeds = three})));
  EXPECT_FALSE(first.equal(policy->decode(input, {.temperature = 1, .seeds = four})));
  EXPECT_TRUE(policy->decode(input, {.temperature = 1e-4, .seeds = three}).equal(policy->decode(input)));
}

std::map<std::string, at::Tensor> gradients(Policy& policy, const PolicyInput& input,
                                            const ActionTokens& tokens) {
  const at::Tensor logits = policy.score(input, tokens).logits.whole();
  logits.log_softmax(-1).gather(-1, tokens.ids.unsqueeze(-1)).sum().backward();
  std::map<std::string, at::Tensor> found;
  for (auto& [name, tensor] : trainable_parameters(policy)) {
    if (tensor.grad().defined()) found[name] = tensor.grad().clone();
    at::Tensor(tensor).mutable_grad().reset();
  }
  return found;
}

TEST(OpenVla, RecomputedActivationsGiveTheSameGradients) {
  const auto plain = golden().policy("adapter_old");
  const auto recomputing = golden().policy("adapter_old", with({.activation_checkpointing = true}));
  const PolicyInput input = plain->encode(golden().observations());
  const ActionTokens tokens = golden().tokens(*plain);
  EXPECT_TRUE(
      plain->score(input, tokens).logits.whole().equal(recomputing->score(input, tokens).logits.whole()));
  const auto expected = gradients(*plain, input, tokens), found = gradients(*recomputing, input, tokens);
  ASSERT_EQ(expected.size(), found.size());
  EXPECT_GT(expected.size(), 20u);
  for (const auto& [name, gradient] : expected) EXPECT_TRUE(gradient.equal(found.at(name))) << name;
}

TEST(OpenVla, RecomputationDropsOutTheSameUnits) {
  PolicyOptions options{.lora = {.dropout = 0.3}};
  const auto plain = golden().policy("adapter_old", options);
  options.of<OpenVlaOptions>().activation_checkpointing = true;
  const auto recomputing = golden().policy("adapter_old", options);
  for (Policy* policy : {plain.get(), recomputing.get()}) policy->set_training(true);
  const PolicyInput input = plain->encode(golden().observations());
  const ActionTokens tokens = golden().tokens(*plain);
  at::manual_seed(7);
  const auto expected = gradients(*plain, input, tokens);
  at::manual_seed(7);
  const auto found = gradients(*recomputing, input, tokens);
  for (const auto& [name, gradient] : expected) EXPECT_LT(distance(gradient, found.at(name)), 1e-6) << name;
}

TEST(OpenVla, AdapterReferenceEqualsAFullCopy) {
  const auto policy = golden().policy("adapter_old");
  Reference copy(*policy, {.mode = ReferenceMode::copy});
  Reference adapter(*policy, {.mode = ReferenceMode::adapter});
  const PolicyInput input = policy->encode(golden().observations());
  const ActionTokens tokens = golden().tokens(*policy);
  ActionTokens other = tokens;
  other.ids = tokens.ids.roll(-1, 0);
  const at::Tensor before = policy->score(input, tokens).logits.whole().detach();
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : trainable_parameters(*policy)) at::Tensor(tensor).mul_(1.5);
  }
  const Score of_copy = copy.score(input, tokens, &other), of_adapter = adapter.score(input, tokens, &other);
  EXPECT_TRUE(of_copy.logits.whole().equal(of_adapter.logits.whole()));
  EXPECT_TRUE(of_copy.mismatched_logits.whole().equal(of_adapter.mismatched_logits.whole()));
  EXPECT_LT(distance(of_adapter.logits.whole(), before), 2e-5);
  EXPECT_GT(distance(policy->score(input, tokens).logits.whole(), before), 0.1);
}

// Towers that nobody changes run once; the answer is that of running them every time.
TEST(OpenVla, FixedPictureFeaturesAreComputedOnce) {
  const auto language = golden().policy("", {.lora = {.rank = 2, .target_modules = "q_proj,v_proj,lm_head"}});
  const auto everything = golden().policy("", {.lora = {.rank = 2}});
  const PolicyInput once = language->encode(golden().observations()),
                    always = everything->encode(golden().observations());
  EXPECT_TRUE(once.features.defined());
  EXPECT_FALSE(once.images.defined());
  EXPECT_TRUE(always.images.defined());
  EXPECT_FALSE(always.features.defined());
  const ActionTokens tokens = golden().tokens(*language);
  // B = 0
  EXPECT_TRUE(
      language->score(once, tokens).logits.whole().equal(everything->score(always, tokens).logits.whole()));
  EXPECT_TRUE(language->score(once.slice(1, 3), tokens.slice(1, 3)).logits.whole().defined());
}

TEST(OpenVla, BFloat16StaysClose) {
  const auto exact = golden().policy("adapter_old");
  const auto coarse = golden().policy("adapter_old", with({.dtype = "bfloat16"}));
  const ActionTokens tokens = golden().tokens(*exact);
  const auto log_probs = [&](Policy& policy) {
    return policy.score(policy.encode(golden().observations()), tokens)
        .logits.whole()
        .log_softmax(-1)
        .gather(-1, tokens.ids.unsqueeze(-1))
        .detach();
  };
  const at::Tensor a = log_probs(*exact), b = log_probs(*coarse);
  EXPECT_EQ(b.scalar_type(), at::kFloat);
  EXPECT_GT(distance(a, b), 1e-5);
  EXPECT_LT((a - b).abs().mean().item<double>(), 0.05);
}

TEST(OpenVla, ChangedWeightsAreNeverWrittenToTheFile) {
  const apo::testing::TempDir directory;
  std::map<std::string, std::string> before;
  for (const auto& entry : fs::directory_iterator(golden().directory / "checkpoint")) {
    before[entry.path().filename()] = read_file(entry.path());
    std::ofstream(directory.path() / entry.path().filename(), std::ios::binary)
        << before[entry.path().filename()];
  }
  PolicyOptions options{.checkpoint = directory.path().string(), .unnorm_key = golden().json["unnorm_key"]};
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  for (auto& [name, tensor] : policy->named_parameters()) {
    EXPECT_EQ(tensor.scalar_type(), at::kHalf);
    const at::NoGradGuard no_grad;
    at::Tensor(tensor).add_(1);  // a private page
  }
  for (const auto& [name, bytes] : before) EXPECT_TRUE(read_file(directory.path() / name) == bytes) << name;
}

TEST(OpenVla, TheSavedAdapterLoadsWithItsBase) {
  const auto policy = golden().policy("adapter_pattern");
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : trainable_parameters(*policy)) at::Tensor(tensor).mul_(1.25);
  }
  const apo::testing::TempDir directory;
  policy->save(directory.path());
  EXPECT_FALSE(fs::exists(directory.path() / "model.safetensors"));
  PolicyOptions options;
  options.checkpoint = directory.path().string();
  options.of<OpenVlaOptions>().dtype = "float32";
  const auto again = make_policy(options, nullptr, 0, at::kCPU);
  const ActionTokens tokens = golden().tokens(*policy);
  EXPECT_TRUE(policy->score(golden().input(), tokens)
                  .logits.whole()
                  .equal(again->score(golden().input(), tokens).logits.whole()));
  EXPECT_EQ(policy->to_actions(tokens.ids).actions, again->to_actions(tokens.ids).actions);
}

TEST(OpenVla, TheMergedWeightsLoadAsACheckpointOfTheirOwn) {
  const auto policy = golden().policy("adapter_old");
  const ActionTokens tokens = golden().tokens(*policy);
  const at::Tensor unmerged = policy->score(golden().input(), tokens).logits.whole().detach();
  merge_adapter(*policy);
  EXPECT_LT(distance(policy->score(golden().input(), tokens).logits.whole(), unmerged), 1e-4);
  const apo::testing::TempDir directory;
  policy->save(directory.path());
  const auto again = load_policy(directory.path(), at::kCPU);
  EXPECT_LT(distance(again->score(golden().input(), tokens).logits.whole(), unmerged), 1e-4);
}

TEST(OpenVla, ACloneIsIndependent) {
  const auto policy = golden().policy("adapter_new");
  const auto copy = policy->clone();
  const ActionTokens tokens = golden().tokens(*policy);
  const at::Tensor before = policy->score(golden().input(), tokens).logits.whole().detach();
  EXPECT_TRUE(copy->score(golden().input(), tokens).logits.whole().equal(before));
  {
    const at::NoGradGuard no_grad;
    for (auto& [name, tensor] : policy->named_parameters()) at::Tensor(tensor).mul_(1.1);
  }
  EXPECT_TRUE(copy->score(golden().input(), tokens).logits.whole().equal(before));
}

// The recorded picture is cropped and resampled once in evaluation; training sees all of it.
TEST(OpenVla, CropsTheCentreOfTheRecordedPictureInEvaluation) {
  const auto policy = golden().policy("adapter_old", with({.center_crop = true})),
             plain = golden().policy("adapter_old");
  std::vector<Observation> observations = golden().observations(), cropped = observations;
  for (size_t i = 0; i < observations.size(); ++i) {
    cropped[i].images["agentview"] = pictures::center_crop(cropped[i].images["agentview"], 0.9, 42, 42);
    policy->prepare(observations[i]);
  }
  policy->set_training(true);
  EXPECT_TRUE(policy->encode(observations).images.equal(plain->encode(golden().observations()).images));
  policy->set_training(false);
  EXPECT_TRUE(policy->encode(observations).images.equal(plain->encode(cropped).images));
}

// Where no adapter touches a block, recomputing it has nothing to pass on.
TEST(OpenVla, RecomputesBlocksThatDoNotTrain) {
  for (const char* targets : {"lm_head", "projector.fc1,layers.2.self_attn.q_proj"}) {
    std::vector<std::map<std::string, at::Tensor>> found;
    for (const bool checkpointing : {false, true}) {
      const auto policy = golden().policy("", with({.activation_checkpointing = checkpointing},
                                                   {.lora = {.rank = 2, .target_modules = targets}}));
      found.push_back(gradients(*policy, policy->encode(golden().observations()), golden().tokens(*policy)));
    }
    ASSERT_EQ(found[0].size(), found[1].size());
    for (const auto& [name, gradient] : found[0]) EXPECT_TRUE(gradient.equal(found[1].at(name))) << name;
  }
}

// By hand: an action token stands for itself; the released program takes a word for the nearer end of the
// range.
TEST(OpenVla, GreedyActionTokensByHand) {
  const auto policy = golden().policy();
  const auto [first, last] = policy->codec().bins().value();
  const ActionTokens tokens = golden().tokens(*policy);
  const auto says = [&](int64_t id, int64_t* clamped) {
    return greedy_action_tokens(*policy, at::full_like(tokens.ids, id), tokens, clamped);
  };
  int64_t clamped = 0;
  EXPECT_TRUE(says(first + 7, &clamped).narrow(1, 0, 7).eq(first + 7).all().item<bool>());
  EXPECT_EQ(clamped, 0);
  const at::Tensor below = says(5, &clamped);
  EXPECT_EQ(clamped, 7 * tokens.ids.size(0));  // the end token's place does not count
  EXPECT_TRUE(below.narrow(1, 0, 7).eq(first).all().item<bool>());
  EXPECT_TRUE(below.select(1, 7).equal(tokens.ids.select(1, 7)));
  EXPECT_TRUE(says(last + 1, nullptr).narrow(1, 0, 7).eq(last).all().item<bool>());
}

TEST(OpenVla, CountsDecodedTokensThatAreNoActions) {
  const auto policy = golden().policy();
  const auto [first, last] = policy->codec().bins().value();
  at::Tensor ids = at::full({2, 8}, first, at::kLong);
  ids.select(1, 7).fill_(2);  // the end token
  EXPECT_EQ(policy->to_actions(ids).num_clamped, 0);
  ids[0][0] = first - 1;
  ids[0][6] = 5;
  ids[1][3] = last + 1;
  ids[1][4] = last;
  EXPECT_EQ(policy->to_actions(ids).num_clamped, 3);
}

TEST(OpenVla, CountsRecordedNumbersBeyondItsTokens) {
  const auto policy = golden().policy();
  std::vector<Action> actions = golden().actions();
  EXPECT_EQ(policy->tokenize(actions).num_clipped, 0);
  actions[1][2] += 10;
  actions[2][0] -= 10;
  EXPECT_EQ(policy->tokenize(actions).num_clipped, 2);
}

// Follows this thread's allocations on the CPU.
class LiveMemory : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t alloc_size, size_t, size_t, at::Device) override {
    live += alloc_size;
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t live = 0;
};

// What `apo-train --dry-run` prints: bytes that a forward pass leaves for the backward pass.
TEST(OpenVla, KnowsWhatItsActivationsTake) {
  for (const bool checkpointing : {false, true}) {
    const auto policy = golden().policy("adapter_old", with({.activation_checkpointing = checkpointing}));
    const PolicyInput input = policy->encode(golden().observations());
    const ActionTokens tokens = golden().tokens(*policy);
    const auto memory = std::make_shared<LiveMemory>();
    at::Tensor logits;
    {
      const c10::DebugInfoGuard follow(c10::DebugInfoKind::PROFILER_STATE, memory);
      logits = policy->score(input, tokens).logits.whole();
    }
    const auto estimate = static_cast<double>(policy->activation_bytes(input, tokens).value());
    const double ratio = static_cast<double>(memory->live) / estimate;
    RecordProperty(checkpointing ? "checkpointing" : "plain", std::to_string(ratio));
    EXPECT_GT(ratio, checkpointing ? 0.2 : 0.6)
        << memory->live << " " << estimate;  // the estimate counts a block more
    EXPECT_LT(ratio, 1.3) << memory->live << " " << estimate;
  }
}

// A full 7B checkpoint of zeros: 15 GB that take no room on disk, and none in memory while nobody reads them.
TEST(OpenVla, OpensTheReleasedSizeWithoutReadingIt) {
  const apo::testing::TempDir directory;
  for (const auto& entry : fs::directory_iterator(golden().directory / "checkpoint"))
    if (entry.path().extension() != ".safetensors" && !entry.path().string().ends_with(".index.json"))
      fs::copy_file(entry.path(), directory.path() / entry.path().filename());
  auto config = nlohmann::json::parse(read_file(directory.path() / "config.json"));
  config["image_sizes"] = {224, 224};
  config["text_config"] = {{"vocab_size", 32064}};
  config["pad_to_multiple_of"] = 32064 - 608;  // the small tokenizer's pieces
  std::ofstream(directory.path() / "config.json") << config;
  OpenVlaNetwork network(OpenVlaShape::released(), at::TensorOptions(at::kBFloat16).device(at::kMeta));
  apo::testing::write_hollow_safetensors(directory.path() / "model.safetensors",
                                         collect_parameters(network, ParameterKind::base));
  const auto resident = [] {
    std::ifstream status("/proc/self/statm");
    int64_t pages = 0;
    status >> pages >> pages;
    return pages * 4096;
  };
  const int64_t before = resident();
  PolicyOptions options;
  options.checkpoint = directory.path().string();
  options.unnorm_key = golden().json["unnorm_key"];
  options.lora.rank = 1;
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  EXPECT_EQ(policy->vocabulary_size(), 32064);
  EXPECT_EQ(policy->codec().bins(), (tokenizers::TokenRange{352, 607}));
  EXPECT_LT(resident() - before, int64_t{100} << 20);
}

}  // namespace
}  // namespace apo::models
