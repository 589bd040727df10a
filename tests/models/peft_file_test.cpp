// Adapter directories before they meet a base: every layout of peft, and what is refused.
#include "models/adapters/peft_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "models/small_world.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

constexpr const char* kLayer = "base_model.model.vision.proj";

class PeftFile : public ::testing::Test {
 protected:
  // An adapter of rank 2 on a linear layer [4, 3] and a convolution [5, 3, 2, 2].
  PeftFile() {
    tensors_ = {{"base_model.model.llm.q_proj.lora_A.weight", at::arange(6, at::kFloat).view({2, 3})},
                {"base_model.model.llm.q_proj.lora_B.weight", at::arange(8, at::kFloat).view({4, 2}) - 3},
                {std::string(kLayer) + ".lora_A.weight", at::arange(24, at::kFloat).view({2, 3, 2, 2}) - 7},
                {std::string(kLayer) + ".lora_B.weight", at::arange(10, at::kFloat).view({5, 2, 1, 1})}};
  }
  PeftAdapter read() {
    write_safetensors(directory_ / "adapter_model.safetensors", tensors_);
    write_file_atomic(directory_ / "adapter_config.json", config_.dump());
    return read_peft(directory_.path());
  }
  std::string complaint() {
    return message_of<DataError>([&] { read(); });
  }
  at::Tensor& tensor(const std::string& name) {
    for (auto& [known, value] : tensors_)
      if (known == name) return value;
    throw Bug(name);
  }

  const TempDir directory_;
  NamedTensors tensors_;
  nlohmann::ordered_json config_ = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 3}, {"bias", "none"}};
};

// scale · B A in the weight's shape
at::Tensor change_of(const PeftAdapter::Part& part) {
  return (at::mm(part.b.flatten(1), part.a.flatten(1)) * part.scale).view(part.weight_shape());
}

TEST_F(PeftFile, ReadsLinearLayersAndConvolutions) {
  config_["base_model_name_or_path"] = "somewhere/base";
  const PeftAdapter adapter = read();
  EXPECT_EQ(adapter.options.rank, 2);
  EXPECT_EQ(adapter.options.alpha, 3);
  EXPECT_EQ(adapter.base_model, "somewhere/base");
  EXPECT_EQ(adapter.layers.size(), 2u);
  const PeftAdapter::Part& linear = adapter.layers.at("llm.q_proj");
  EXPECT_EQ(linear.scale, 1.5);
  EXPECT_EQ(linear.weight_shape(), (std::vector<int64_t>{4, 3}));
  // row 0 of B is (-3, -2): -3 (0, 1, 2) - 2 (3, 4, 5) = (-6, -11, -16), times 3/2
  EXPECT_TRUE(change_of(linear)[0].equal(at::tensor({-9.0f, -16.5f, -24.0f})));
  const PeftAdapter::Part& convolution = adapter.layers.at("vision.proj");
  EXPECT_EQ(convolution.weight_shape(), (std::vector<int64_t>{5, 3, 2, 2}));
  // B[1] = (2, 3), A[0, 1, 0, 1] = 5 - 7 = -2, A[1, 1, 0, 1] = 17 - 7 = 10: (2 · -2 + 3 · 10) · 1.5 = 39
  EXPECT_EQ(change_of(convolution)[1][1][0][1].item<float>(), 39);
}

TEST_F(PeftFile, ReadsNamesFromMemoryAndCopiesOfTheBase) {
  for (const char* adapter_name : {".default", ".sft"}) {
    const NamedTensors before = tensors_;
    for (auto& [name, value] : tensors_) name.insert(name.rfind(".weight"), adapter_name);
    tensors_.emplace_back("base_model.model.llm.head.base_layer.weight", at::ones({7, 3}));
    tensors_.emplace_back("base_model.model.llm.embed.weight", at::ones({6, 3}));
    tensors_.emplace_back("base_model.model.llm.head.base_layer.bias", at::ones({7}));
    const PeftAdapter adapter = read();
    EXPECT_EQ(adapter.layers.size(), 2u);
    EXPECT_EQ(adapter.layers.count("llm.q_proj"), 1u);
    EXPECT_EQ(adapter.base_copies.size(), 3u);
    EXPECT_EQ(adapter.base_copies.at("llm.head.weight").sizes(), at::IntArrayRef({7, 3}));
    EXPECT_EQ(adapter.base_copies.at("llm.embed.weight").sizes(), at::IntArrayRef({6, 3}));
    EXPECT_EQ(adapter.base_copies.at("llm.head.bias").sizes(), at::IntArrayRef({7}));
    tensors_ = before;
  }
}

// Names, types and order of the file make no difference; what the adapter does, does.
TEST_F(PeftFile, ItsHashIsOfWhatItDoes) {
  const std::string hash = adapter_hash(read());
  const NamedTensors before = tensors_;
  for (auto& [name, value] : tensors_) {
    name.insert(name.rfind(".weight"), ".sft");
    value = value.to(at::kBFloat16);  // small whole numbers
  }
  tensors_.emplace_back("base_model.model.llm.head.base_layer.weight", at::ones({7, 3}));
  EXPECT_EQ(adapter_hash(read()), hash);
  tensors_ = before;
  config_["lora_alpha"] = 4;
  EXPECT_NE(adapter_hash(read()), hash);
  config_["lora_alpha"] = 3;
  tensor(std::string(kLayer) + ".lora_A.weight") = at::arange(24, at::kFloat).view({2, 3, 2, 2}) - 6;
  EXPECT_NE(adapter_hash(read()), hash);
}

TEST_F(PeftFile, SaysWhatToDoWithAPickle) {
  read();
  fs::rename(directory_ / "adapter_model.safetensors", directory_ / "adapter_model.bin");
  EXPECT_THAT(message_of<DataError>([&] { read_peft(directory_.path()); }),
              AllOf(HasSubstr("adapter_model.bin: a pickle of PyTorch"), HasSubstr("weights_only=True")));
  fs::remove(directory_ / "adapter_model.bin");
  EXPECT_THAT(message_of<DataError>([&] { read_peft(directory_.path()); }),
              HasSubstr("adapter_model.safetensors: no such file"));
}

// peft itself would load these without a word and without an effect.
TEST_F(PeftFile, RefusesNamesOfWrappedModels) {
  const NamedTensors before = tensors_;
  const auto with_names = [&](const std::function<void(std::string&)>& change) {
    tensors_ = before;
    for (auto& [name, value] : tensors_) change(name);
    return complaint();
  };
  EXPECT_THAT(with_names([](std::string& name) { name = "_orig_mod." + name; }),
              AllOf(HasSubstr("_orig_mod.base_model.model"), HasSubstr("wrapped by torch.compile"),
                    HasSubstr("k.replace(\"_orig_mod.\", \"\")")));
  EXPECT_THAT(with_names([](std::string& name) {
                name.insert(std::string("base_model.model.").size(), "_orig_mod.");
              }),
              HasSubstr("wrapped by torch.compile"));
  EXPECT_THAT(with_names([](std::string& name) { name = "module." + name; }),
              HasSubstr("wrapped by DistributedDataParallel"));
}

TEST_F(PeftFile, RefusesTwoAdaptersInOneFile) {
  for (auto& [name, value] : tensors_)
    name.insert(name.rfind(".weight"), name.find("q_proj") != std::string::npos ? ".one" : ".two");
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("expected one adapter in the file, found two"), HasSubstr("\"two\"")));
}

TEST_F(PeftFile, FindsTheAdapterInItsDirectory) {
  read();
  fs::create_directories(directory_ / "saved");
  const auto find = [&](const fs::path& path) {
    return message_of<DataError>([&] { resolve_adapter(path, "policy.adapter"); });
  };
  EXPECT_EQ(resolve_adapter(directory_.path(), "policy.adapter"), directory_.path());
  EXPECT_THAT(find(directory_ / "saved"), HasSubstr("no policy here"));
  fs::create_directories(directory_ / "saved/sft");
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors"})
    fs::copy_file(directory_ / name, directory_ / "saved/sft" / name);
  EXPECT_EQ(resolve_adapter(directory_ / "saved", "policy.adapter"), directory_ / "saved/sft");
  fs::copy(directory_ / "saved/sft", directory_ / "saved/apo");
  EXPECT_THAT(find(directory_ / "saved"), AllOf(HasSubstr("expected one adapter, found 2: apo, sft")));
  EXPECT_THAT(find(directory_ / "nowhere"),
              AllOf(HasSubstr("policy.adapter: "), HasSubstr("nowhere/adapter_config.json: no such file")));
  EXPECT_THAT(find(directory_ / "openvla/openvla-7b-sft"),
              AllOf(HasSubstr("if openvla/openvla-7b-sft is a name on the Hugging Face hub, download it"),
                    HasSubstr("nothing is fetched")));
  EXPECT_THAT(find(directory_ / "adapter_model.safetensors"), HasSubstr("found a file"));
  fs::remove(directory_ / "saved/sft/adapter_config.json");
  EXPECT_THAT(find(directory_ / "saved/sft"), HasSubstr("adapter_config.json: missing beside adapter_model"));
}

TEST_F(PeftFile, ScalesByTheSquareRootForRankStabilised) {
  config_["use_rslora"] = true;
  EXPECT_DOUBLE_EQ(read().layers.at("llm.q_proj").scale, 3 / std::sqrt(2.0));
}

// The first pattern in the file that matches the end of the name counts, at a dot.
TEST_F(PeftFile, FollowsRankAndAlphaPatterns) {
  config_["r"] = 8;
  config_["rank_pattern"] = {{"proj", 2}, {"llm.q_proj", 2}};
  config_["alpha_pattern"] = {{"l+m\\.q_proj", 6}, {"q_proj", 100}, {"vision", 50}, {"sion.proj", 60}};
  const PeftAdapter adapter = read();
  EXPECT_EQ(adapter.layers.at("llm.q_proj").scale, 3);     // 6 / 2
  EXPECT_EQ(adapter.layers.at("vision.proj").scale, 1.5);  // 3 / 2
}

TEST_F(PeftFile, AnchorsPatterns) {
  config_["alpha_pattern"] = {{"^q_proj", 100}, {"^vision\\.proj", 8}};
  const PeftAdapter adapter = read();
  EXPECT_EQ(adapter.layers.at("llm.q_proj").scale, 1.5);  // 3 / 2
  EXPECT_EQ(adapter.layers.at("vision.proj").scale, 4);   // 8 / 2
}

TEST_F(PeftFile, RefusesEveryKindButPlainLora) {
  const std::vector<std::pair<std::string, nlohmann::ordered_json>> others = {
      {"peft_type", "IA3"},
      {"use_dora", true},
      {"fan_in_fan_out", true},
      {"lora_bias", true},
      {"bias", "all"},
      {"modules_to_save", {"head"}},
      {"use_qalora", true},
      {"layer_replication", {{0, 4}}},
      {"trainable_token_indices", {5}},
      {"target_parameters", {"x"}},
      {"megatron_config", {{"a", 1}}},
      {"init_lora_weights", "pissa_niter_16"},
      {"init_lora_weights", "loftq"},
      {"init_lora_weights", 3}};
  for (const auto& [key, value] : others) {
    const auto before = config_;
    config_[key] = value;
    EXPECT_THAT(complaint(),
                AllOf(HasSubstr("adapter_config.json: " + key + ": expected"), HasSubstr("found")));
    config_ = before;
  }
  for (const auto& [key, value] : std::vector<std::pair<std::string, nlohmann::ordered_json>>{
           {"use_dora", false},
           {"modules_to_save", nullptr},
           {"modules_to_save", nlohmann::ordered_json::array()},
           {"init_lora_weights", true},
           {"init_lora_weights", "gaussian"},
           {"rank_pattern", nullptr},
           {"eva_config", nullptr}}) {
    config_[key] = value;
    EXPECT_NO_THROW(read()) << key;
  }
}

TEST_F(PeftFile, RefusesBadNumbers) {
  for (const auto& [key, value, text] :
       std::vector<std::tuple<std::string, nlohmann::ordered_json, std::string>>{
           {"r", 0, "r: expected an integer from 1"},
           {"r", 2.5, "r: expected an integer"},
           {"r", 1 << 30, "r: expected an integer from 1 to 65536"},
           {"lora_alpha", 0, "lora_alpha: expected a number > 0"},
           {"lora_alpha", "x", "lora_alpha: expected a number"},
           {"lora_dropout", 1, "lora_dropout: expected a number from 0"},
           {"base_model_name_or_path", 3, "base_model_name_or_path: expected a text"},
           {"rank_pattern", {2}, "rank_pattern: expected an object"},
           {"rank_pattern", {{"proj", 0}}, "rank_pattern.proj: expected a number > 0"},
           {"alpha_pattern", {{"(", 2}}, "alpha_pattern.(: expected a layer name or a regular expression"}}) {
    const auto before = config_;
    config_[key] = value;
    EXPECT_THAT(complaint(), AllOf(HasSubstr("adapter_config.json"), HasSubstr(text))) << key;
    config_ = before;
  }
}

TEST_F(PeftFile, RefusesTensorsThatDoNotFitEachOther) {
  const std::string a = std::string(kLayer) + ".lora_A.weight", b = std::string(kLayer) + ".lora_B.weight";
  const NamedTensors before = tensors_;
  const auto with = [&](const std::string& name, const at::Tensor& value) {
    tensors_ = before;
    tensor(name) = value;
    return complaint();
  };
  EXPECT_THAT(with(a, at::ones({3, 3, 2, 2})),
              AllOf(HasSubstr(a), HasSubstr("expected 2 rows"), HasSubstr("[3, 3, 2, 2]")));
  EXPECT_THAT(with(b, at::ones({5, 3, 1, 1})),
              AllOf(HasSubstr(b), HasSubstr("expected [out, 2, 1, 1]"), HasSubstr("[5, 3, 1, 1]")));
  EXPECT_THAT(with(b, at::ones({5, 2, 2, 2})), HasSubstr("expected [out, 2, 1, 1]"));
  EXPECT_THAT(with(b, at::ones({5, 2})), HasSubstr("expected [out, 2, 1, 1]"));
  EXPECT_THAT(with(a, at::ones({2})), HasSubstr("expected that of a linear layer"));
  EXPECT_THAT(with(a, at::ones({2, 0})), HasSubstr("expected that of a linear layer"));
  EXPECT_THAT(with(a, at::ones({2, 3, 2, 2}, at::kInt)), AllOf(HasSubstr(a), HasSubstr("floating-point")));
  EXPECT_THAT(with(a, at::full({2, 3, 2, 2}, std::numeric_limits<float>::infinity())),
              AllOf(HasSubstr(a), HasSubstr("NaN or infinity")));
}

TEST_F(PeftFile, RefusesTensorsThatItDoesNotKnow) {
  const NamedTensors before = tensors_;
  for (const char* name :
       {"base_model.model.llm.embed.lora_embedding_A", "llm.q_proj.lora_A.weight",
        "base_model.model.lora_A.weight", "base_model.model.llm.q_proj.lora_magnitude_vector",
        "base_model.model.llm.head.modules_to_save.default.weight"}) {
    tensors_ = before;
    tensors_.emplace_back(name, at::ones({2, 3}));
    EXPECT_THAT(complaint(), AllOf(HasSubstr("adapter_model.safetensors: tensor " + std::string(name)),
                                   HasSubstr("expected")))
        << name;
  }
  tensors_ = before;
  tensors_.emplace_back("base_model.model.llm.q_proj.lora_A.default.weight", at::ones({2, 3}));
  EXPECT_THAT(complaint(), HasSubstr("one and the same"));
  tensors_ = before;
  tensors_.emplace_back("base_model.model." + std::string(100000, '(') + ".lora_A.weight", at::ones({2, 3}));
  EXPECT_THAT(complaint(), HasSubstr("a name of 10003"));
  tensors_ = before;
  tensors_.pop_back();
  EXPECT_THAT(complaint(), HasSubstr(std::string(kLayer) + ".lora_B.weight is missing"));
  tensors_ = {{"base_model.model.llm.head.base_layer.weight", at::ones({7, 3})}};
  EXPECT_THAT(complaint(), HasSubstr("expected adapter tensors, found none"));
}

TEST_F(PeftFile, FindsTheBase) {
  read();
  EXPECT_THAT(message_of<DataError>([&] { base_of_adapter(directory_.path()); }),
              AllOf(HasSubstr("adapter_config.json: base_model_name_or_path"), HasSubstr("found nothing")));
  config_["base_model_name_or_path"] = "base";
  read();
  EXPECT_THAT(message_of<DataError>([&] { base_of_adapter(directory_.path()); }),
              AllOf(HasSubstr("a directory with weights"), HasSubstr("\"base\"")));
  fs::create_directory(directory_ / "base");
  write_safetensors(directory_ / "base/model.safetensors", {});
  EXPECT_EQ(base_of_adapter(directory_.path()), directory_ / "base");
  config_["base_model_name_or_path"] = (directory_ / "base").string();
  read();
  EXPECT_EQ(base_of_adapter(directory_.path()), directory_ / "base");
  write_safetensors(directory_ / "model.safetensors", {});
  EXPECT_EQ(base_of_adapter(directory_.path()), directory_.path());
}

}  // namespace
}  // namespace apo::models
