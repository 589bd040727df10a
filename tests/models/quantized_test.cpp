#include "models/sequence/quantized.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <torch/types.h>

#include <limits>

#include "apo/models/linear.h"
#include "apo/models/reference.h"
#include "apo/models/safetensors.h"
#include "models/openvla_fixture.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OpenVlaGolden;
using testing::with;

constexpr Quantization kAll[] = {Quantization::float8, Quantization::int8, Quantization::nf4};

at::Tensor random(at::IntArrayRef sizes, uint64_t seed) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed), at::TensorOptions(at::kFloat));
}

// Two numbers a byte, the first in the high bits: -1 is level 0, 0 is 7, 1 is 15; the scale is the block's
// largest.
TEST(Quantized, Nf4ByHand) {
  at::Tensor weight = at::zeros({2, 64});
  weight[0][0] = -2, weight[0][1] = 2;
  weight[1][63] = 0.5;
  const QuantizedWeight packed = quantize(weight, Quantization::nf4);
  EXPECT_EQ(packed.codes.sizes(), at::IntArrayRef({2, 32}));
  EXPECT_EQ(packed.codes[0][0].item<int>(), 0x0f);
  EXPECT_EQ(packed.codes[0][1].item<int>(), 0x77);
  EXPECT_EQ(packed.codes[1][31].item<int>(), 0x7f);
  EXPECT_TRUE(packed.scales.equal(torch::tensor({{2.0f}, {0.5f}})));
  EXPECT_TRUE(decoded(packed, at::kFloat).equal(weight));
  EXPECT_EQ(num_weights("a.weight.codes", packed.codes), 128);
  EXPECT_EQ(num_weights("a.weight.scales", packed.scales), 0);
}

TEST(Quantized, Nf4EqualsBitsandbytes) {
  const SafetensorsReader golden(
      std::filesystem::path(apo::testing::in_source("tests/models/goldens/quantized.safetensors")));
  const at::Tensor weight = golden.tensor("weight");
  const QuantizedWeight packed = quantize(weight, Quantization::nf4);
  EXPECT_TRUE(packed.codes.equal(golden.tensor("codes")));
  // of a block of zeros any scale will do
  const at::Tensor block = golden.tensor("scales").gt(0);
  EXPECT_TRUE(packed.scales.masked_select(block).equal(golden.tensor("scales").masked_select(block)));
  EXPECT_TRUE(decoded(packed, at::kFloat).equal(golden.tensor("decoded")));
}

// Half of a step: of 1/127 of the row's largest; of 2^-3 of the number itself, or of the smallest steps near
// 0; of the widest gap of the levels, 1 - 0.696.
TEST(Quantized, ErrorsAreAtMostHalfAStep) {
  const at::Tensor weight = random({16, 128}, 1);
  const at::Tensor row = std::get<0>(weight.abs().max(1, true));
  const auto error = [&](Quantization q) {
    return (decoded(quantize(weight, q), at::kFloat) - weight).abs();
  };
  EXPECT_TRUE(error(Quantization::int8).le(row / 254 * 1.0001).all().item<bool>());
  EXPECT_TRUE(error(Quantization::float8)
                  .le((weight.abs() / 16).maximum(row / 448 / 1024) * 1.0001)
                  .all()
                  .item<bool>());
  EXPECT_TRUE(error(Quantization::nf4).le(row * 0.1520).all().item<bool>());
  EXPECT_TRUE(error(Quantization::nf4).gt(0).any().item<bool>());
}

TEST(Quantized, TypesRoundOnceAndRowsAreParts) {
  const at::Tensor weight = random({6, 64}, 2);
  for (const Quantization q : kAll) {
    const QuantizedWeight packed = quantize(weight, q);
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf})
      EXPECT_TRUE(decoded(packed, type).equal(decoded(packed, at::kFloat).to(type)));
    EXPECT_TRUE(decoded(rows_of(packed, 2, 5), at::kFloat).equal(decoded(packed, at::kFloat).slice(0, 2, 5)));
    EXPECT_TRUE(quantize(decoded(packed, at::kFloat), q).codes.equal(packed.codes));
  }
  EXPECT_FALSE(can_quantize(at::empty({4, 96}), Quantization::nf4));
  EXPECT_TRUE(can_quantize(at::empty({4, 96}), Quantization::int8));
  EXPECT_FALSE(can_quantize(at::empty({4, 3, 8, 8}), Quantization::int8));
}

// A layer of 64 inputs and 6 outputs with an adapter, quantized or with the decoded weight in full.
struct Layer {
  Layer(Quantization q, bool quantized, at::ScalarType type, LoraOptions lora = {})
      : linear(64, 6, true, at::TensorOptions(type)) {
    const QuantizedWeight packed = quantize(random({6, 64}, 3), q);
    linear.weight = decoded(packed, type);
    if (quantized) {
      linear.quantized = packed;
      linear.weight = at::empty(linear.weight.sizes(), linear.weight.options().device(at::kMeta));
    }
    linear.bias.copy_(random({6}, 4));
    slots.attach("layer", linear);
    linear.adapters.push_back({.slot = "default",
                               .a = random({2, 64}, 5).set_requires_grad(true),
                               .b = random({6, 2}, 6).set_requires_grad(true),
                               .scale = 0.5});
    slots.add("default", lora);
    slots.activate("default");
  }
  // output, and gradients of input, A and B
  std::vector<at::Tensor> run(at::ScalarType type) {
    const at::Tensor x = random({3, 5, 64}, 7).to(type).set_requires_grad(true);
    const at::Tensor y = linear(x);
    (y.to(at::kFloat) * random({3, 5, 6}, 8)).sum().backward();
    return {y.detach(), x.grad(), linear.adapters[0].a.grad(), linear.adapters[0].b.grad()};
  }
  Linear linear;
  AdapterSlots slots;
};

TEST(Quantized, ALayerEqualsOneThatHoldsTheDecodedWeight) {
  for (const Quantization q : kAll)
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      Layer few(q, true, type), whole(q, false, type);
      const auto a = few.run(type), b = whole.run(type);
      for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << i;
      EXPECT_TRUE(few.linear.rows(at::ones({1, 64}, type), 1, 4)
                      .equal(whole.linear.rows(at::ones({1, 64}, type), 1, 4)));
      few.slots.activate(""), whole.slots.activate("");  // the base alone
      EXPECT_TRUE(few.linear(at::ones({1, 64}, type)).equal(whole.linear(at::ones({1, 64}, type))));
    }
}

TEST(Quantized, AutocastIsThatOfThePlainLayer) {
  Layer few(Quantization::int8, true, at::kFloat), whole(Quantization::int8, false, at::kFloat);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto a = few.run(at::kFloat), b = whole.run(at::kFloat);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(a[0].scalar_type(), at::kBFloat16);
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LT((a[i].to(at::kFloat) - b[i].to(at::kFloat)).abs().max().item<float>(),
              0.02 * b[i].to(at::kFloat).abs().max().item<float>())
        << i;
}

TEST(Quantized, DropoutIsThatOfThePlainLayer) {
  std::vector<std::vector<at::Tensor>> runs;
  for (const bool quantized : {true, false, true}) {
    Layer layer(Quantization::nf4, quantized, at::kFloat, {.rank = 2, .dropout = 0.5});
    layer.slots.set_training(true);
    at::manual_seed(runs.size() < 2 ? 1 : 2);
    runs.push_back(layer.run(at::kFloat));
  }
  for (size_t i = 0; i < runs[0].size(); ++i) EXPECT_TRUE(runs[0][i].allclose(runs[1][i], 1e-5, 1e-5)) << i;
  EXPECT_FALSE(runs[0][0].allclose(runs[2][0]));
}

// Numbers that are no normal ones any more are 0, and do not overflow their codes.
TEST(Quantized, VanishingRowsAreZero) {
  for (const Quantization q : kAll)
    for (const float tiny : {1e-45f, 1e-41f, 1e-38f})
      EXPECT_LE(decoded(quantize(at::full({2, 64}, tiny), q), at::kFloat).abs().max().item<float>(),
                2 * tiny);
}

TEST(Quantized, APi0FastIsReadTiedAndCopied) {
  const std::filesystem::path directory = apo::testing::in_source("tests/models/goldens/pi0_fast");
  for (const char* variant : {"openpi", "lerobot"}) {
    PolicyOptions options;
    options.checkpoint = (directory / variant / "checkpoint").string();
    if (!std::filesystem::exists(options.checkpoint)) FAIL() << options.checkpoint;
    options.lora.rank = 2;
    auto& own = options.of<Pi0FastOptions>();
    own.dtype = "bfloat16";
    own.quantization = "int8";
    const auto policy = make_policy(options, nullptr, 0, at::kCPU);
    EXPECT_EQ(parameter_hash(*policy->clone()), parameter_hash(*policy));
  }
}

PolicyOptions few_bits(const std::string& quantization) {
  PolicyOptions options = with({.quantization = quantization});
  options.lora.rank = 2;
  return options;
}

class QuantizedOpenVla : public ::testing::Test {
 protected:
  std::unique_ptr<Policy> open(const std::string& quantization) const {
    return golden_.policy("", few_bits(quantization));
  }
  at::Tensor logits(Policy& policy) const {
    const at::NoGradGuard no_grad;
    const PolicyInput input = policy.encode(golden_.observations());
    return policy.score(input, policy.tokenize(golden_.actions())).logits.whole();
  }
  const OpenVlaGolden golden_{"a"};
};

TEST_F(QuantizedOpenVla, RefusesAWeightThatIsNotFinite) {
  const std::string layer = "language_model.model.layers.0.self_attn.q_proj.weight";
  const std::filesystem::path checkpoint = golden_.directory / "checkpoint";
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const char* quantization : {"int8", "float8", "nf4"}) {
      SCOPED_TRACE(concat(bad, " ", quantization));
      const apo::testing::TempDir dir;
      std::filesystem::copy(checkpoint, dir / "spoiled");
      const std::filesystem::path index = dir / "spoiled" / "model.safetensors.index.json";
      const std::string shard =
          nlohmann::json::parse(read_file(checkpoint / "model.safetensors.index.json"))["weight_map"].at(
              layer);
      const SafetensorsReader stored(checkpoint / shard);
      NamedTensors tensors;
      for (const std::string& name : stored.names_in_order()) {
        tensors.emplace_back(name, stored.tensor(name).clone());
        if (name == layer) tensors.back().second.view(-1)[3] = bad;
      }
      write_safetensors(dir / "spoiled" / shard, tensors, stored.metadata());
      PolicyOptions options = few_bits(quantization);
      options.checkpoint = (dir / "spoiled").string();
      options.unnorm_key = golden_.json["unnorm_key"];
      EXPECT_EQ(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
                concat(index.string(), ": tensor ", layer,
                       ": expected finite numbers to quantize, found NaN or infinity"));
    }
}

TEST_F(QuantizedOpenVla, ScoresNearlyAsTheStoredWeights) {
  const auto stored = open("none");
  const at::Tensor expected = logits(*stored);
  double before = 0;
  for (const char* quantization : {"int8", "float8", "nf4"}) {  // fewer levels, larger errors
    const auto policy = open(quantization);
    const double error = (logits(*policy) - expected).abs().mean().item<double>();
    EXPECT_GT(error, before) << quantization;
    EXPECT_LT(error, 0.3 * expected.std().item<double>()) << quantization;
    before = error;
    int64_t numbers = 0, of_stored = 0, bytes = 0, of_stored_bytes = 0;
    for (const auto& [name, tensor] : policy->named_parameters())
      numbers += num_weights(name, tensor), bytes += static_cast<int64_t>(tensor.nbytes());
    for (const auto& [name, tensor] : stored->named_parameters())
      of_stored += tensor.numel(), of_stored_bytes += static_cast<int64_t>(tensor.nbytes());
    EXPECT_EQ(numbers, of_stored);
    EXPECT_LT(bytes, of_stored_bytes);
    EXPECT_NE(frozen_parameter_hash(*policy), frozen_parameter_hash(*stored));
    EXPECT_EQ(frozen_parameter_hash(*policy), frozen_parameter_hash(*open(quantization)));
  }
}

TEST_F(QuantizedOpenVla, TrainsItsAdapterAloneAndIsCopiedWhole) {
  const auto policy = open("nf4");
  for (const auto& [name, tensor] : policy->named_parameters())
    EXPECT_EQ(tensor.requires_grad(), name.find(".lora_") != std::string::npos) << name;
  const auto copy = policy->clone();
  EXPECT_TRUE(logits(*copy).equal(logits(*policy)));
  EXPECT_EQ(parameter_hash(*copy), parameter_hash(*policy));
  Reference reference(*policy, {.mode = ReferenceMode::adapter});
  const PolicyInput input = policy->encode(golden_.observations());
  const ActionTokens tokens = policy->tokenize(golden_.actions());
  policy->score(input, tokens).logits.whole().square().mean().backward();
  int64_t reached = 0;  // a tower's last layers are not read
  for (const auto& [name, tensor] : trainable_parameters(*policy))
    if (name.find(".lora_B.") != std::string::npos && tensor.grad().defined()) {
      EXPECT_GT(tensor.grad().abs().sum().item<double>(), 0) << name;
      ++reached;
    }
  EXPECT_GT(reached, 20);
  EXPECT_TRUE(reference.score(input, tokens, nullptr).logits.whole().equal(logits(*policy)));
}

TEST_F(QuantizedOpenVla, TakesNoAdapterIn) {
  const auto policy = open("int8");
  EXPECT_THAT(message_of<ConfigError>([&] { merge_adapter(*policy); }),
              AllOf(HasSubstr("policy.lora.merge"), HasSubstr("found int8")));
}

TEST_F(QuantizedOpenVla, IsWrittenAsAnAdapterThatSaysWhatItWasTrainedOn) {
  const apo::testing::TempDir dir;
  open("nf4")->save(dir.path());
  EXPECT_EQ(SafetensorsReader(dir / "adapter_model.safetensors").metadata().at("base_quantization"), "nf4");
  const auto warnings = [&](const std::string& quantization) {
    PolicyOptions options = with({.quantization = quantization});
    options.checkpoint = dir.path().string();
    options.unnorm_key = golden_.json["unnorm_key"];
    ::testing::internal::CaptureStderr();
    make_policy(options, nullptr, 0, at::kCPU);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(warnings("nf4").find("was trained on"), std::string::npos);
  EXPECT_THAT(warnings("none"), HasSubstr("was trained on weights with quantization nf4"));
  PolicyOptions bare = with({.quantization = "int8"});
  const auto without = golden_.policy("", bare);
  EXPECT_THAT(message_of<ConfigError>([&] { without->save(dir.path()); }),
              HasSubstr("policy.openvla.quantization: weights in few bits are not written"));
}

}  // namespace
}  // namespace apo::models
