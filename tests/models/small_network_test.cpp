// The network against the same network written in plain PyTorch (scripts/goldens/make_models.py).
#include <gmock/gmock.h>
#include <torch/types.h>

#include <filesystem>

#include "apo/models/safetensors.h"
#include "models/small/network.h"
#include "models/small_world.h"
#include "support/places.h"

namespace apo::models {
namespace {

const std::filesystem::path kGoldens = apo::testing::in_source("tests/models/goldens");

class SmallNetworkGolden : public ::testing::Test {
 protected:
  SmallNetworkGolden() : network_(shape(), at::TensorOptions(at::kFloat)) {
    for (auto& [name, tensor] : collect_parameters(network_, ParameterKind::base)) {
      tensor.copy_(file_.tensor("weights." + name));
      tensor.set_requires_grad(true);
    }
    input_.images = file_.tensor("input.images").to(at::kFloat) / 255 - 0.5;
    input_.prompt = file_.tensor("input.prompt");
    input_.prompt_mask = file_.tensor("input.prompt_mask");
    input_.state = file_.tensor("input.state");
  }
  static SmallShape shape() {
    return {.cameras = 2,
            .image_size = 32,
            .channels = 4,
            .width = 16,
            .layers = 2,
            .heads = 2,
            .vocabulary = 9,
            .prompt_length = 6,
            .state_size = 3,
            .action_size = 5,
            .action_bins = 12};
  }
  at::Tensor golden(const std::string& name) const { return file_.tensor(name); }

  SafetensorsReader file_{kGoldens / "small.safetensors"};
  SmallNetwork network_;
  PolicyInput input_;
};

TEST_F(SmallNetworkGolden, HasExactlyTheGoldenTensors) {
  size_t weights = 0;
  for (const std::string& name : file_.names()) weights += name.starts_with("weights.");
  EXPECT_EQ(collect_parameters(network_, ParameterKind::base).size(), weights);
}

TEST_F(SmallNetworkGolden, LogitsAreThoseOfPyTorch) {
  const std::vector<at::Tensor> answers{golden("input.ids")};
  const at::Tensor logits = network_.score(input_, answers)[0];
  EXPECT_GT(golden("output.logits").abs().max().item<double>(), 0.5);  // the golden says something
  EXPECT_LT(testing::distance(logits, golden("output.logits")), 1e-5);
}

TEST_F(SmallNetworkGolden, MismatchedLogitsAreThoseOfPyTorch) {
  const std::vector<at::Tensor> answers{golden("input.ids"), golden("input.mismatched")};
  const std::vector<at::Tensor> logits = network_.score(input_, answers);
  EXPECT_LT(testing::distance(logits[0], golden("output.logits")), 1e-5);
  EXPECT_LT(testing::distance(logits[1], golden("output.mismatched_logits")), 1e-5);
}

TEST_F(SmallNetworkGolden, LogitsWithAnAdapterAreThoseOfPyTorch) {
  AdapterSlots slots;
  SlotAttacher attach(slots);
  network_.visit(attach);
  for (const auto& [name, linear] : slots.layers())
    linear->adapters.push_back(
        {.slot = "default",
         .a = golden("adapter." + name + ".lora_A.weight"),
         .b = golden("adapter." + name + ".lora_B.weight"),
         .scale = std::stod(file_.metadata().at("alpha")) / std::stod(file_.metadata().at("rank"))});
  slots.add("default");
  slots.activate("default");
  const std::vector<at::Tensor> answers{golden("input.ids")};
  EXPECT_GT(testing::distance(golden("output.adapted_logits"), golden("output.logits")), 0.1);
  EXPECT_LT(testing::distance(network_.score(input_, answers)[0], golden("output.adapted_logits")), 2e-5);
}

TEST_F(SmallNetworkGolden, GradientsAreThoseOfPyTorch) {
  const std::vector<at::Tensor> answers{golden("input.ids")};
  (network_.score(input_, answers)[0] * golden("input.direction")).sum().backward();
  int64_t compared = 0;
  for (const auto& [name, tensor] : collect_parameters(network_, ParameterKind::base)) {
    if (!file_.has("gradient." + name)) continue;
    const at::Tensor expected = golden("gradient." + name);
    EXPECT_LT(testing::distance(tensor.grad(), expected), 1e-4 * expected.abs().max().item<double>()) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 7);
}

TEST_F(SmallNetworkGolden, DecodingFollowsTheGoldenLogits) {
  // Choosing the recorded tokens whatever the logits say, decoding must see the teacher-forced logits.
  std::vector<at::Tensor> seen;
  const at::Tensor ids = golden("input.ids");
  const auto recorded = [&](const at::Tensor& logits) {
    seen.push_back(logits);
    return ids.select(1, static_cast<int64_t>(seen.size()) - 1);
  };
  const at::Tensor decoded = network_.decode(input_, {.choose = recorded});
  EXPECT_TRUE(decoded.equal(ids));
  EXPECT_LT(testing::distance(at::stack(seen, 1), golden("output.logits")), 1e-5);
}

TEST(SmallNetwork, AllocatesNothingOnTheMetaDevice) {
  const SmallShape huge{.width = 32768, .layers = 24};  // 300 billion parameters
  SmallNetwork network(huge, at::TensorOptions(at::kFloat).device(at::kMeta));
  int64_t parameters = 0;
  for (const auto& [name, tensor] : collect_parameters(network, ParameterKind::base)) {
    EXPECT_TRUE(tensor.is_meta()) << name;
    parameters += tensor.numel();
  }
  EXPECT_GT(parameters, 300'000'000'000);
}

// The prototype that learned the tabletop task: 0.22 million parameters.
TEST(SmallNetwork, HasTheSizeOfThePrototype) {
  SmallShape shape{.vocabulary = 7, .prompt_length = 5, .state_size = 2};
  SmallNetwork network(shape, at::TensorOptions(at::kFloat).device(at::kMeta));
  int64_t parameters = 0;
  for (const auto& [name, tensor] : collect_parameters(network, ParameterKind::base))
    parameters += tensor.numel();
  EXPECT_NEAR(static_cast<double>(parameters), 223'000, 1'000);
}

TEST(SmallNetwork, StartsAsThePrototypeDoes) {
  SmallShape shape{.vocabulary = 50, .state_size = 2};
  SmallNetwork network(shape, at::TensorOptions(at::kFloat));
  network.initialize(3);
  std::map<std::string, at::Tensor> by_name;
  for (const auto& [name, tensor] : collect_parameters(network, ParameterKind::base)) by_name[name] = tensor;
  const auto deviation = [&](const std::string& name) { return by_name.at(name).std().item<double>(); };
  EXPECT_NEAR(deviation("state1.weight"), 0.15, 0.02);
  EXPECT_NEAR(deviation("state2.weight"), 0.15, 0.02);
  EXPECT_NEAR(deviation("head.weight"), 0.01, 0.001);
  EXPECT_NEAR(deviation("blocks.1.qkv.weight"), 0.02, 0.002);
  EXPECT_NEAR(deviation("word"), 0.02, 0.002);
  EXPECT_NEAR(deviation("position"), 0.02, 0.002);
  // Convolutions: uniform within 1 / sqrt(fan_in), so 1 / sqrt(75) / sqrt(3) = 0.0667 for 3 x 5 x 5.
  EXPECT_NEAR(deviation("conv1.weight"), 0.0667, 0.006);
  EXPECT_LE(by_name.at("conv1.weight").abs().max().item<double>(), 1 / std::sqrt(75.0));
  EXPECT_TRUE(by_name.at("begin").equal(at::zeros({64})));
  EXPECT_TRUE(by_name.at("blocks.0.norm1.weight").equal(at::ones({64})));
  // Bin 255 stands for 1: sin(1.5) 0.05 = 0.049875 first, cos(1.5) 0.05 = 0.003537 in the second half.
  EXPECT_NEAR(by_name.at("action")[255][0].item<double>(), 0.049875, 1e-6);
  EXPECT_NEAR(by_name.at("action")[255][32].item<double>(), 0.003537, 1e-6);
}

}  // namespace
}  // namespace apo::models
