#include "apo/models/lora.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include <nlohmann/json.hpp>
#include <set>

#include "apo/base/files.h"
#include "apo/models/linear.h"
#include "apo/models/safetensors.h"
#include "models/adapters/adapter_cast.h"
#include "models/small_world.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using testing::actions;
using ::testing::AllOf;
using testing::distance;
using ::testing::HasSubstr;
using testing::message_of;
using testing::observations;
using testing::small_policy;

// A policy whose trained slot holds an adapter that matters.
std::unique_ptr<SmallPolicy> adapted_policy(LoraOptions options = {.rank = 2, .alpha = 3}) {
  auto policy = small_policy();
  add_adapter(*policy->adapter_slots(), kTrainedSlot, options, 5);
  policy->adapter_slots()->activate(kTrainedSlot);
  const at::NoGradGuard no_grad;
  for (auto& [name, tensor] : policy->named_parameters()) {
    const bool adapter = name.find(".lora_") != std::string::npos;
    if (name.find(".lora_B.") != std::string::npos)
      tensor.copy_(at::linspace(-0.5, 0.4, tensor.numel()).view_as(tensor));
    tensor.set_requires_grad(adapter);
  }
  return policy;
}

struct Scored {
  explicit Scored(SmallPolicy& policy)
      : input(policy.encode(observations(1, 4))), tokens(policy.tokenize(actions(1, 4))) {}
  PolicyInput input;
  ActionTokens tokens;
  at::Tensor logits(Policy& policy) const { return policy.score(input, tokens).logits.whole().detach(); }
};

// W = [[1, 2]], bias 1, A = [[1, -1]], B = [[2]], alpha 3, rank 1: x = (3, 1) gives
// W x + bias = 3 + 2 + 1 = 6, A x = 2, B A x = 4, 3 / 1 * 4 = 12, together 18.
TEST(Linear, AddsTheActiveAdapterByHand) {
  Linear linear(2, 1, true, at::TensorOptions(at::kFloat));
  linear.weight.copy_(torch::tensor({{1.0f, 2.0f}}));
  linear.bias.fill_(1);
  AdapterSlots slots;
  slots.attach("layer", linear);
  linear.adapters.push_back(
      {.slot = "default", .a = torch::tensor({{1.0f, -1.0f}}), .b = torch::tensor({{2.0f}}), .scale = 3});
  slots.add("default");
  const at::Tensor x = torch::tensor({{3.0f, 1.0f}});
  EXPECT_EQ(linear(x).item<float>(), 6);
  slots.activate("default");
  EXPECT_EQ(linear(x).item<float>(), 18);
  EXPECT_TRUE(adapter_product(linear.adapters[0]).equal(torch::tensor({{6.0f, -6.0f}})));
  slots.add("empty");
  slots.activate("empty");  // a slot that this layer does not carry
  EXPECT_EQ(linear(x).item<float>(), 6);
}

TEST(Linear, KeepsTheBaseDtypeBesideAFloat32Adapter) {
  Linear linear(2, 1, false, at::TensorOptions(at::kBFloat16));
  linear.weight.fill_(1);
  AdapterSlots slots;
  slots.attach("layer", linear);
  linear.adapters.push_back({.slot = "default", .a = at::ones({1, 2}), .b = at::ones({1, 1}), .scale = 0.5});
  slots.add("default");
  slots.activate("default");
  const at::Tensor y = linear(at::ones({1, 2}, at::kBFloat16));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(y.item<float>(), 3);  // 2 + 0.5 * 2
}

// 1 + s b a x with x = 2: a = 3, b = 5, s = 0.5 give 16; every change of a or b counts at once, in place or
// not.
TEST(Linear, AChangedAdapterIsCastAnew) {
  Linear linear(1, 1, true, at::TensorOptions(at::kBFloat16)),
      neighbour(1, 1, false, at::TensorOptions(at::kBFloat16));
  linear.weight.zero_();
  linear.bias.fill_(1);
  neighbour.weight.zero_();
  AdapterSlots slots;
  slots.attach("layer", linear);
  slots.attach("neighbour", neighbour);
  for (Linear* layer : {&linear, &neighbour})
    layer->adapters.push_back(
        {.slot = "default", .a = at::full({1, 1}, 3.0), .b = at::full({1, 1}, 5.0), .scale = 0.5});
  slots.add("default");
  slots.activate("default");
  const at::Tensor x = at::full({1, 1}, 2, at::kBFloat16);
  LinearAdapter& adapter = linear.adapters[0];
  EXPECT_EQ(linear(x).item<float>(), 16);
  EXPECT_TRUE(neighbour.adapters[0].cast != nullptr);  // all layers of the slot together
  const at::Tensor first = adapter.cast->a, of_neighbour = neighbour.adapters[0].cast->a;
  EXPECT_EQ(linear(x).item<float>(), 16);
  EXPECT_TRUE(adapter.cast->a.is_same(first));
  adapter.a.fill_(1);
  EXPECT_EQ(linear(x).item<float>(), 6);
  adapter.b.mul_(2);
  EXPECT_EQ(linear(x).item<float>(), 11);
  adapter.a = at::full({1, 1}, 4.0);
  EXPECT_EQ(linear(x).item<float>(), 41);
  EXPECT_TRUE(neighbour.adapters[0].cast->a.is_same(of_neighbour));
  EXPECT_EQ(first.item<float>(), 1.5);  // what a graph may still hold stays as it was
}

TEST(Lora, AFreshAdapterChangesNothing) {
  const auto policy = small_policy();
  const Scored scored(*policy);
  const at::Tensor before = scored.logits(*policy);
  add_adapter(*policy->adapter_slots(), kTrainedSlot, {.rank = 4}, 1);
  policy->adapter_slots()->activate(kTrainedSlot);
  EXPECT_TRUE(scored.logits(*policy).equal(before));
}

TEST(Lora, EveryLinearLayerCarriesASlot) {
  const auto policy = adapted_policy();
  std::set<std::string> carrying;
  for (const auto& [name, tensor] : policy->named_parameters())
    if (const size_t at = name.find(".lora_A.default.weight"); at != std::string::npos)
      carrying.insert(name.substr(0, at));
  EXPECT_THAT(carrying, ::testing::UnorderedElementsAre("film1", "film2", "film3", "state1", "state2", "head",
                                                        "blocks.0.qkv", "blocks.0.out", "blocks.0.fc1",
                                                        "blocks.0.fc2", "blocks.1.qkv", "blocks.1.out",
                                                        "blocks.1.fc1", "blocks.1.fc2"));
}

TEST(Lora, TargetsAreWholeNamesOrLastParts) {
  const auto policy = small_policy();
  AdapterSlots& slots = *policy->adapter_slots();
  add_adapter(slots, "default", {.rank = 1, .target_modules = "qkv, blocks.1.fc1"}, 1);
  std::vector<std::string> carrying;
  for (const auto& [name, linear] : slots.layers())
    if (linear->find("default") != nullptr) carrying.push_back(name);
  EXPECT_THAT(carrying, ::testing::ElementsAre("blocks.0.qkv", "blocks.1.qkv", "blocks.1.fc1"));
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { add_adapter(slots, "other", {.rank = 1, .target_modules = "qkv,kv"}, 1); }),
              AllOf(HasSubstr("\"kv\""), HasSubstr("blocks.0.qkv")));
  EXPECT_THAT(message_of<ConfigError>([&] { add_adapter(slots, "other", {.rank = 0}, 1); }),
              HasSubstr("rank"));
  EXPECT_THAT(message_of<ConfigError>([&] { add_adapter(slots, "default", {.rank = 1}, 1); }),
              HasSubstr("in use"));
  EXPECT_FALSE(slots.has("other"));
}

TEST(Lora, StartsAsPeftDoes) {
  const auto policy = small_policy();
  AdapterSlots& slots = *policy->adapter_slots();
  add_adapter(slots, "kaiming", {.rank = 64}, 1);
  add_adapter(slots, "gaussian", {.rank = 64, .init = "gaussian"}, 1);
  for (const auto& [name, linear] : slots.layers()) {
    const at::Tensor kaiming = linear->find("kaiming")->a, gaussian = linear->find("gaussian")->a;
    const double bound =
        1 / std::sqrt(static_cast<double>(linear->in_features()));  // kaiming_uniform(a = sqrt 5)
    EXPECT_LE(kaiming.abs().max().item<double>(), bound) << name;
    EXPECT_NEAR(kaiming.std().item<double>(), bound / std::sqrt(3.0), 0.1 * bound) << name;
    EXPECT_NEAR(gaussian.std().item<double>(), 1.0 / 64, 0.002) << name;  // N(0, 1 / rank)
    EXPECT_TRUE(linear->find("gaussian")->b.equal(at::zeros({linear->out_features(), 64}))) << name;
  }
}

TEST(Lora, ScaleIsAlphaOverRankOrItsRoot) {
  const auto policy = small_policy();
  AdapterSlots& slots = *policy->adapter_slots();
  add_adapter(slots, "plain", {.rank = 4, .alpha = 6}, 1);
  add_adapter(slots, "stabilised", {.rank = 4, .alpha = 6, .rslora = true}, 1);
  EXPECT_DOUBLE_EQ(slots.layers()[0].second->find("plain")->scale, 1.5);
  EXPECT_DOUBLE_EQ(slots.layers()[0].second->find("stabilised")->scale, 3);
}

TEST(Lora, OnlyTheAdapterTrains) {
  const auto policy = adapted_policy();
  const Scored scored(*policy);
  policy->score(scored.input, scored.tokens, nullptr).logits.whole().square().sum().backward();
  for (const auto& [name, tensor] : policy->named_parameters()) {
    if (name.find(".lora_") == std::string::npos) {
      EXPECT_FALSE(tensor.grad().defined()) << name;
    } else {
      ASSERT_TRUE(tensor.grad().defined()) << name;
      EXPECT_GT(tensor.grad().abs().max().item<double>(), 0) << name;
    }
  }
  for (const auto& [name, tensor] : trainable_parameters(*policy)) EXPECT_THAT(name, HasSubstr(".lora_"));
}

TEST(Lora, DropoutActsInTrainingOnly) {
  const auto policy = adapted_policy({.rank = 2, .alpha = 3, .dropout = 0.5});
  const Scored scored(*policy);
  const at::Tensor calm = scored.logits(*policy);
  EXPECT_TRUE(scored.logits(*policy).equal(calm));
  policy->set_training(true);
  EXPECT_FALSE(scored.logits(*policy).equal(calm));
  policy->set_training(false);
  EXPECT_TRUE(scored.logits(*policy).equal(calm));
}

TEST(Lora, MergedEqualsUnmerged) {
  for (const bool rslora : {false, true}) {
    const auto policy = adapted_policy({.rank = 2, .alpha = 3, .rslora = rslora});
    const Scored scored(*policy);
    const at::Tensor unmerged = scored.logits(*policy);
    policy->adapter_slots()->activate("");
    EXPECT_GT(distance(scored.logits(*policy), unmerged), 0.1);
    policy->adapter_slots()->activate(kTrainedSlot);
    merge_adapter(*policy);
    EXPECT_LT(distance(scored.logits(*policy), unmerged), 2e-5);
    EXPECT_TRUE(policy->adapter_slots()->active().empty());
    for (const auto& [name, tensor] : policy->named_parameters()) {
      EXPECT_EQ(name.find("lora"), std::string::npos) << name;
      EXPECT_TRUE(tensor.requires_grad()) << name;
    }
  }
}

TEST(Lora, MergingUnderAReferenceIsABug) {
  const auto policy = adapted_policy();
  copy_adapter(*policy->adapter_slots(), kTrainedSlot, "reference");
  EXPECT_THROW(merge_adapter(*policy), Bug);
  EXPECT_THROW(policy->adapter_slots()->activate("nobody"), Bug);
}

TEST(Lora, IsWrittenInPeftsLayout) {
  const apo::testing::TempDir directory;
  const auto policy =
      adapted_policy({.rank = 2, .alpha = 3, .dropout = 0.1, .target_modules = "qkv,fc1", .rslora = true});
  policy->save(directory.path());
  const auto json = nlohmann::json::parse(read_file(directory / "adapter_config.json"));
  EXPECT_EQ(json["peft_type"], "LORA");
  EXPECT_EQ(json["r"], 2);
  EXPECT_EQ(json["lora_alpha"], 3);
  EXPECT_EQ(json["lora_dropout"], 0.1);
  EXPECT_EQ(json["use_rslora"], true);
  EXPECT_EQ(json["bias"], "none");
  EXPECT_EQ(json["target_modules"], (nlohmann::json{"fc1", "qkv"}));
  EXPECT_TRUE(json.contains("base_model_name_or_path"));
  const SafetensorsReader adapter(directory / "adapter_model.safetensors");
  EXPECT_THAT(
      adapter.names(),
      ::testing::UnorderedElementsAre(
          "base_model.model.blocks.0.qkv.lora_A.weight", "base_model.model.blocks.0.qkv.lora_B.weight",
          "base_model.model.blocks.0.fc1.lora_A.weight", "base_model.model.blocks.0.fc1.lora_B.weight",
          "base_model.model.blocks.1.qkv.lora_A.weight", "base_model.model.blocks.1.qkv.lora_B.weight",
          "base_model.model.blocks.1.fc1.lora_A.weight", "base_model.model.blocks.1.fc1.lora_B.weight"));
  EXPECT_EQ(adapter.shape("base_model.model.blocks.0.fc1.lora_A.weight"), (std::vector<int64_t>{2, 16}));
  EXPECT_EQ(adapter.shape("base_model.model.blocks.0.fc1.lora_B.weight"), (std::vector<int64_t>{64, 2}));
  for (const std::string& name : SafetensorsReader(directory / "model.safetensors").names())
    EXPECT_EQ(name.find("lora"), std::string::npos) << name;
}

TEST(Lora, TargetsThatShareALastPartAreWrittenWhole) {
  const apo::testing::TempDir directory;
  adapted_policy({.rank = 2, .target_modules = "blocks.1.qkv"})->save(directory.path());
  const auto json = nlohmann::json::parse(read_file(directory / "adapter_config.json"));
  EXPECT_EQ(json["target_modules"], (nlohmann::json{"blocks.1.qkv"}));
}

TEST(Lora, TheSavedPolicyTrainsOnBitEqualOrMerges) {
  const apo::testing::TempDir directory;
  const auto policy = adapted_policy();
  const Scored scored(*policy);
  policy->save(directory.path());
  for (const int64_t rank : {0, 2}) {  // 0: as the adapter has it
    const auto loaded = make_policy(
        {.checkpoint = directory.path().string(), .lora = {.rank = rank, .alpha = 3}}, nullptr, 9, at::kCPU);
    EXPECT_TRUE(scored.logits(*loaded).equal(scored.logits(*policy)));
    EXPECT_EQ(parameter_hash(*loaded), parameter_hash(*policy));
    EXPECT_EQ(trainable_parameters(*loaded).size(), 28u);
    for (const auto& [name, tensor] : trainable_parameters(*loaded)) EXPECT_THAT(name, HasSubstr(".lora_"));
  }
  const auto merged =
      make_policy({.checkpoint = directory.path().string(), .lora = {.merge = true}}, nullptr, 9, at::kCPU);
  EXPECT_EQ(trainable_parameters(*merged).size(), merged->named_parameters().size());
  EXPECT_TRUE(scored.logits(*merged).equal(scored.logits(*policy)));
  merge_adapter(*merged);
  EXPECT_LT(distance(scored.logits(*merged), scored.logits(*policy)), 2e-5);
  EXPECT_TRUE(merged->adapter_slots()->names().empty());
  EXPECT_EQ(trainable_parameters(*merged).size(), merged->named_parameters().size());
}

TEST(Lora, AnAdapterDirectoryOfItsOwnLoadsOntoABase) {
  const apo::testing::TempDir directory;
  std::filesystem::create_directory(directory / "base");
  std::filesystem::create_directory(directory / "adapter");
  small_policy()->save(directory / "base");
  const auto policy = adapted_policy();
  save_adapter(*policy->adapter_slots(), kTrainedSlot, directory / "adapter", "base");
  const Scored scored(*policy);
  PolicyOptions options{.checkpoint = (directory / "base").string(),
                        .adapter = (directory / "adapter").string()};
  options.lora = {.rank = 2, .alpha = 3};
  EXPECT_TRUE(scored.logits(*make_policy(options, nullptr, 0, at::kCPU)).equal(scored.logits(*policy)));
  // rank, alpha and targets are the adapter's own
  options.lora = {};
  const auto loaded = make_policy(options, nullptr, 0, at::kCPU);
  EXPECT_TRUE(scored.logits(*loaded).equal(scored.logits(*policy)));
  EXPECT_EQ(loaded->adapter_slots()->options(kTrainedSlot).rank, 2);
  EXPECT_EQ(loaded->adapter_slots()->options(kTrainedSlot).alpha, 3);
  EXPECT_EQ(trainable_parameters(*loaded).size(), 28u);
  options.lora = {.rank = 2, .merge = true};
  EXPECT_THAT(message_of<ConfigError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("policy.lora.merge: all weights train; expected policy.lora.rank 0, found 2"));
  options.lora = {.alpha = 3};
  options.lora.rank = 8;
  EXPECT_THAT(message_of<ConfigError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              AllOf(HasSubstr("policy.lora.rank: is 8"), HasSubstr("has rank 2")));
  options.lora.rank = 2;
  options.adapter = (directory / "nowhere").string();
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("nowhere/adapter_config.json"));
  policy->save(directory / "base");
  options.adapter = (directory / "adapter").string();
  EXPECT_THAT(message_of<ConfigError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("already holds an adapter"));
}

// The file's lora_dropout is that of the run that wrote it.
TEST(Lora, ALoadedAdapterDropsNothingUnlessTheConfigSaysSo) {
  const apo::testing::TempDir directory;
  adapted_policy({.rank = 2, .alpha = 3, .dropout = 0.1})->save(directory.path());
  PolicyOptions options{.checkpoint = directory.path().string()};
  EXPECT_EQ(make_policy(options, nullptr, 0, at::kCPU)->adapter_slots()->options(kTrainedSlot).dropout, 0);
  options.lora.dropout = 0.2;
  EXPECT_EQ(make_policy(options, nullptr, 0, at::kCPU)->adapter_slots()->options(kTrainedSlot).dropout, 0.2);
}

// goldens/peft was written by peft itself (rank 2, alpha 3, use_rslora: scale 3 / sqrt 2).
TEST(Lora, ReadsWhatPeftWrote) {
  const std::filesystem::path directory = apo::testing::in_source("tests/models/goldens/peft");
  const auto policy = small_policy();
  AdapterSlots& slots = *policy->adapter_slots();
  load_adapter(*policy, "default", directory);
  EXPECT_EQ(slots.options("default").target_modules, "all-linear");
  const SafetensorsReader change(directory / "change.safetensors");
  int64_t compared = 0;
  for (const auto& [name, linear] : slots.layers()) {
    ASSERT_NE(linear->find("default"), nullptr) << name;
    if (!change.has(name)) continue;
    EXPECT_LT(distance(adapter_product(*linear->find("default")), change.tensor(name)), 1e-6) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 3);
}

class AdapterFile : public ::testing::Test {
 protected:
  AdapterFile() { save_adapter(*policy_->adapter_slots(), kTrainedSlot, directory_.path(), "."); }
  // Loads after a change to the file's tensors, and returns the complaint.
  std::string complaint(const std::function<void(NamedTensors&)>& change) {
    NamedTensors tensors;
    {
      const SafetensorsReader reader(file());
      for (const std::string& name : reader.names()) tensors.emplace_back(name, reader.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(file(), tensors);
    return complaint();
  }
  std::string complaint_of_config(const std::string& key, const nlohmann::json& value) {
    auto json = nlohmann::json::parse(read_file(directory_ / "adapter_config.json"));
    json[key] = value;
    write_file_atomic(directory_ / "adapter_config.json", json.dump());
    return complaint();
  }
  std::string complaint() {
    const auto fresh = small_policy();
    const std::string message =
        message_of<DataError>([&] { load_adapter(*fresh, "default", directory_.path()); });
    for (const auto& [name, linear] : fresh->adapter_slots()->layers())
      if (message != "(nothing thrown)") {
        EXPECT_TRUE(linear->adapters.empty()) << "changed by half: " << name;
      }
    return message;
  }
  std::filesystem::path file() const { return directory_ / "adapter_model.safetensors"; }

  apo::testing::TempDir directory_;
  std::unique_ptr<SmallPolicy> policy_ = adapted_policy();
};

TEST_F(AdapterFile, LoadsAsItIs) { EXPECT_EQ(complaint(), "(nothing thrown)"); }

TEST_F(AdapterFile, LoadsOlderNames) {
  EXPECT_EQ(complaint([](NamedTensors& tensors) {
              for (auto& [name, tensor] : tensors)
                name.insert(name.size() - std::string("weight").size(), "default.");
            }),
            "(nothing thrown)");
}

TEST_F(AdapterFile, NamesATensorThatIsMissing) {
  const std::string message = complaint([](NamedTensors& tensors) {
    std::erase_if(tensors,
                  [](const auto& entry) { return entry.first == "base_model.model.head.lora_B.weight"; });
  });
  EXPECT_THAT(message, AllOf(HasSubstr("adapter_model.safetensors"),
                             HasSubstr("base_model.model.head.lora_B.weight is missing")));
}

TEST_F(AdapterFile, NamesATensorOfAnotherShape) {
  const std::string message = complaint([](NamedTensors& tensors) {
    for (auto& [name, tensor] : tensors)
      if (name == "base_model.model.head.lora_A.weight") tensor = at::zeros({2, 17});
  });
  EXPECT_THAT(message,
              AllOf(HasSubstr("base_model.model.head.lora_A.weight"),
                    HasSubstr("expected an adapter of [16, 16]"), HasSubstr("found one of [16, 17]")));
}

TEST_F(AdapterFile, NamesALayerThatThePolicyLacks) {
  EXPECT_THAT(complaint([](NamedTensors& tensors) {
                for (auto& [name, tensor] : tensors)
                  if (name.find(".head.") != std::string::npos) name.replace(name.find("head"), 4, "tail");
              }),
              HasSubstr("an adapter for the layer tail"));
  EXPECT_THAT(complaint([](NamedTensors& tensors) {
                tensors.emplace_back("base_model.model.head.stranger", at::zeros(1));
              }),
              HasSubstr("base_model.model.head.stranger: expected"));
}

TEST_F(AdapterFile, TakesACopyOfTheBaseThatEqualsIt) {
  at::Tensor convolution, head;
  for (const auto& [name, tensor] : policy_->named_parameters()) {
    if (name == "conv1.weight") convolution = tensor.detach().clone();
    if (name == "head.weight") head = tensor.detach().clone();
  }
  ASSERT_TRUE(convolution.defined() && head.defined());
  EXPECT_EQ(complaint([&](NamedTensors& tensors) {
              tensors.emplace_back("base_model.model.conv1.weight", convolution);
              tensors.emplace_back("base_model.model.head.base_layer.weight", head);
            }),
            "(nothing thrown)");
  EXPECT_THAT(
      complaint([&](NamedTensors& tensors) {
        for (auto& [name, tensor] : tensors)
          if (name == "base_model.model.conv1.weight") tensor = tensor * 1.001;
      }),
      AllOf(HasSubstr("adapter_model.safetensors: the copy of conv1.weight differs from the base's by 0.001"),
            HasSubstr("trained beside the adapter"), HasSubstr("merge_and_unload")));
  EXPECT_THAT(complaint([&](NamedTensors& tensors) {
                for (auto& [name, tensor] : tensors)
                  if (name == "base_model.model.conv1.weight") name = "base_model.model.conv9.weight";
              }),
              HasSubstr("a copy of the base's conv9.weight, which this policy lacks"));
}

TEST_F(AdapterFile, RefusesNaN) {
  EXPECT_THAT(complaint([](NamedTensors& tensors) { tensors[0].second.view(-1)[1] = NAN; }),
              HasSubstr("found NaN"));
}

TEST_F(AdapterFile, RefusesOtherKindsOfAdapter) {
  EXPECT_THAT(complaint_of_config("use_dora", true),
              AllOf(HasSubstr("adapter_config.json"),
                    HasSubstr("use_dora: expected nothing, found true; only plain LoRA is read")));
  EXPECT_THAT(complaint_of_config("use_dora", 3), HasSubstr("use_dora: expected nothing, found 3"));
}
TEST_F(AdapterFile, RefusesModulesToSave) {
  EXPECT_THAT(
      complaint_of_config("modules_to_save", {"head"}),
      AllOf(HasSubstr("modules_to_save: expected nothing, found head"), HasSubstr("merge_and_unload")));
}
TEST_F(AdapterFile, RefusesAnotherPeftType) {
  EXPECT_THAT(complaint_of_config("peft_type", "IA3"),
              HasSubstr("peft_type: expected \"LORA\", found \"IA3\""));
}
TEST_F(AdapterFile, RefusesAWrongRank) {
  EXPECT_THAT(complaint_of_config("r", -1), HasSubstr("r: expected an integer from 1"));
  EXPECT_THAT(
      complaint_of_config("r", 5),
      HasSubstr("lora_A.weight: expected 5 rows (r or rank_pattern of adapter_config.json), found [2, 16]"));
}

}  // namespace
}  // namespace apo::models
