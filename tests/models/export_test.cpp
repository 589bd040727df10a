// A checkpoint with its adapter merged: by hand on small tensors, the same scores on a tiny OpenVLA, and what
// is refused.
#include "apo/models/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "apo/base/error.h"
#include "apo/base/files.h"
#include "apo/models/safetensors.h"
#include "models/openvla_fixture.h"
#include "models/small_world.h"
#include "support/near.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

// base/ with four tensors in two shards and some files beside them, adapter/ with a linear layer, a
// convolution and an output head, all of rank 2 and scale 3/2.
class Export : public ::testing::Test {
 protected:
  Export() {
    fs::create_directories(base_);
    fs::create_directories(adapter_);
    write_sharded_safetensors(base_, base_tensors_, 100);
    write_file_atomic(base_ / "config.json", R"({"model_type": "openvla", "torch_dtype": "float32",
      "norm_stats": {"old": {"action": {"q01": [1]}}}, "text_config": {"torch_dtype": "float32"}})");
    write_file_atomic(base_ / "dataset_statistics.json", R"({"old": {"action": {"q01": [1]}}})");
    write_file_atomic(base_ / "tokenizer.model", std::string("\0\1binary", 8));
    write_file_atomic(base_ / "modeling_prismatic.py", "# code\n");
    write_file_atomic(base_ / "pytorch_model.bin", "other weights");
    write_file_atomic(base_ / ".gitattributes", "hidden");
    write_file_atomic(base_ / "DONE", "");
    fs::create_directory(base_ / "folder");
    write_adapter();
  }

  void write_adapter() {
    write_safetensors(adapter_ / "adapter_model.safetensors", adapter_tensors_);
    write_file_atomic(adapter_ / "adapter_config.json", config_.dump());
  }

  at::Tensor base_tensor(const std::string& name) const {
    for (const auto& [known, value] : base_tensors_)
      if (known == name) return value;
    throw Bug(name);
  }

  std::string complaint(const ExportOptions& options = {}) {
    return message_of<Error>([&] { export_checkpoint(base_, adapter_, output_, options); });
  }

  const TempDir directory_;
  const fs::path base_ = directory_ / "base", adapter_ = directory_ / "adapter", output_ = directory_ / "out";
  const NamedTensors base_tensors_{{"z.proj.weight", at::arange(24, at::kFloat).view({2, 3, 2, 2}) / 7},
                                   {"llm.q_proj.weight", at::arange(12, at::kFloat).view({4, 3}) / 3},
                                   {"llm.norm.weight", at::tensor({0.1f, 0.2f, 0.3f})},
                                   {"llm.lm_head.weight", at::ones({5, 3})},
                                   {"llm.steps", at::scalar_tensor(7, at::kLong)}};
  NamedTensors adapter_tensors_{
      {"base_model.model.llm.q_proj.lora_A.weight", at::arange(6, at::kFloat).view({2, 3}) - 2},
      {"base_model.model.llm.q_proj.lora_B.weight", at::arange(8, at::kFloat).view({4, 2}) - 3},
      {"base_model.model.z.proj.lora_A.weight", at::arange(24, at::kFloat).view({2, 3, 2, 2}) - 7},
      {"base_model.model.z.proj.lora_B.weight", at::tensor({1.0f, 2.0f, -1.0f, 0.5f}).view({2, 2, 1, 1})},
      {"base_model.model.llm.lm_head.lora_A.weight", at::ones({2, 3})},
      {"base_model.model.llm.lm_head.lora_B.weight", at::ones({5, 2})},
      {"base_model.model.llm.lm_head.base_layer.weight", at::ones({5, 3}, at::kBFloat16)}};
  nlohmann::ordered_json config_ = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 3}, {"bias", "none"}};
};

TEST_F(Export, AddsTheAdapterByHand) {
  const ExportSummary summary = export_checkpoint(base_, adapter_, output_);
  EXPECT_EQ(summary.num_tensors, 5);
  EXPECT_EQ(summary.num_merged, 3);
  EXPECT_EQ(summary.num_bytes, 96 + 48 + 12 + 60 + 8);
  EXPECT_THAT(summary.weights, ElementsAre("model.safetensors"));
  const SafetensorsReader reader(output_);
  EXPECT_EQ(reader.names_in_order(), SafetensorsReader(base_).names_in_order());
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  // q_proj row 0: (0, 1, 2) / 3 + 3/2 (-3 (-2, -1, 0) - 2 (1, 2, 3)) = (6, -1.5 + 1/3, -9 + 2/3)
  EXPECT_TRUE(at::allclose(reader.tensor("llm.q_proj.weight")[0],
                           at::tensor({6.0f, -1.5f + 1.0f / 3, -9.0f + 2.0f / 3})));
  // proj[1][2][1][0]: element 22 of 24: 22/7 + 3/2 (-1 (10 - 7) + 0.5 (22 - 7)) = 22/7 + 6.75
  EXPECT_FLOAT_EQ(reader.tensor("z.proj.weight")[1][2][1][0].item<float>(), 22.0f / 7 + 6.75f);
  EXPECT_TRUE(reader.tensor("llm.lm_head.weight").equal(at::full({5, 3}, 4.0f)));  // 1 + 3/2 (1 + 1)
  EXPECT_TRUE(reader.tensor("llm.norm.weight").equal(base_tensor("llm.norm.weight")));
  EXPECT_EQ(reader.tensor("llm.steps").item<int64_t>(), 7);
}

TEST_F(Export, CopiesWhatIsNoWeight) {
  const ExportSummary summary = export_checkpoint(base_, adapter_, output_);
  EXPECT_THAT(summary.copied, ElementsAre("config.json", "dataset_statistics.json", "modeling_prismatic.py",
                                          "tokenizer.model"));
  for (const char* name :
       {"config.json", "dataset_statistics.json", "modeling_prismatic.py", "tokenizer.model"})
    EXPECT_EQ(read_file(output_ / name), read_file(base_ / name)) << name;
  for (const char* name : {"pytorch_model.bin", ".gitattributes", "folder", "adapter_config.json",
                           "model.safetensors.index.json"})
    EXPECT_FALSE(fs::exists(output_ / name)) << name;
  EXPECT_TRUE(is_whole_directory(output_));
}

TEST_F(Export, TakesStatisticsOfTheAdapter) {
  for (const char* name :
       {"statistic.json", "dataset_statistics.json"}) {  // the second wins where both are there
    const std::string statistics = std::string(R"({"new": {"action": {"q01": [")") + name + "\"]}}}";
    write_file_atomic(adapter_ / name, statistics);
    export_checkpoint(base_, adapter_, output_, {.overwrite = true});
    EXPECT_EQ(read_file(output_ / "dataset_statistics.json"), statistics);
    const auto config = nlohmann::json::parse(read_file(output_ / "config.json"));
    EXPECT_EQ(config["norm_stats"]["new"]["action"]["q01"][0], name);
    EXPECT_EQ(config["norm_stats"]["old"]["action"]["q01"][0], 1);
    EXPECT_EQ(config["torch_dtype"], "float32");
    EXPECT_FALSE(fs::exists(output_ / "statistic.json"));
  }
}

TEST_F(Export, MakesShardsAndTheirIndex) {
  const ExportSummary summary = export_checkpoint(base_, adapter_, output_, {.max_shard_bytes = 100});
  EXPECT_THAT(summary.weights,
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors"));  // 96 | 48 + 12 | 60 + 8
  const auto index = nlohmann::json::parse(read_file(output_ / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 224);
  EXPECT_EQ(index["weight_map"]["llm.norm.weight"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"].size(), 5u);
  EXPECT_TRUE(SafetensorsReader(output_).tensor("llm.lm_head.weight").equal(at::full({5, 3}, 4.0f)));
}

TEST_F(Export, ConvertsFloatingPointTensorsAlone) {
  for (const auto& [dtype, type] : std::vector<std::pair<std::string, at::ScalarType>>{
           {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}, {"float32", at::kFloat}}) {
    export_checkpoint(base_, adapter_, output_, {.dtype = dtype, .overwrite = true});
    const SafetensorsReader reader(output_);
    EXPECT_EQ(reader.tensor("llm.q_proj.weight").scalar_type(), type);
    EXPECT_TRUE(reader.tensor("llm.norm.weight").equal(base_tensor("llm.norm.weight").to(type)));
    EXPECT_EQ(reader.tensor("llm.steps").scalar_type(), at::kLong);
    const auto config = nlohmann::json::parse(read_file(output_ / "config.json"));
    EXPECT_EQ(config["torch_dtype"], dtype);
    EXPECT_EQ(config["text_config"]["torch_dtype"], dtype);
  }
}

// The product 2^-8 + 2^-18 lies just above half of bfloat16's step at 1. Rounded before the sum it would be
// 2^-8, a tie that goes down to the even 1; rounded after it, the sum goes up to 1 + 2^-7.
TEST_F(Export, RoundsOnceAfterTheSum) {
  const fs::path half = directory_ / "half";
  fs::create_directory(half);
  write_safetensors(half / "model.safetensors", {{"layer.weight", at::ones({1, 1}, at::kBFloat16)}});
  write_file_atomic(half / "config.json", "{}");
  adapter_tensors_ = {
      {"base_model.model.layer.lora_A.weight", at::ones({1, 1})},
      {"base_model.model.layer.lora_B.weight", at::full({1, 1}, std::ldexp(1.0, -8) + std::ldexp(1.0, -18))}};
  config_["r"] = 1;
  config_["lora_alpha"] = 1;
  write_adapter();
  export_checkpoint(half, adapter_, output_);
  const at::Tensor merged = SafetensorsReader(output_).tensor("layer.weight");
  EXPECT_EQ(merged.scalar_type(), at::kBFloat16);
  EXPECT_EQ(merged.item<float>(), 1 + 1.0f / 128);
}

// W = (1, 8), D = (3, 3) 2^-8 in bfloat16: 1 + 3 · 2^-8 lies between 1 + 2^-7 and 1 + 2^-6, a tie that goes
// to the even 1 + 2^-6, so 4 of its 3 parts are kept; 8 + 3 · 2^-8 is 8, so none: Σ (W' − W) D / Σ D² = 4 · 3
// / (9 + 9) = 2/3.
TEST_F(Export, SaysHowMuchOfTheAdapterThePrecisionHolds) {
  const fs::path half = directory_ / "half";
  fs::create_directory(half);
  write_safetensors(half / "model.safetensors",
                    {{"layer.weight", torch::tensor({{1.0f}, {8.0f}}).to(at::kBFloat16)}});
  write_file_atomic(half / "config.json", "{}");
  adapter_tensors_ = {{"base_model.model.layer.lora_A.weight", at::ones({1, 1})},
                      {"base_model.model.layer.lora_B.weight", at::full({2, 1}, 3.0f / 256)}};
  config_["r"] = 1;
  config_["lora_alpha"] = 1;
  write_adapter();
  EXPECT_NEAR(export_checkpoint(half, adapter_, output_).adapter_kept, 2.0 / 3, 1e-6);
  const ExportSummary whole =
      export_checkpoint(half, adapter_, output_, {.dtype = "float32", .overwrite = true});
  EXPECT_NEAR(whole.adapter_kept, 1, 1e-6);
  EXPECT_EQ(SafetensorsReader(output_).tensor("layer.weight")[1].item<float>(), 8 + 3.0f / 256);
  adapter_tensors_[1].second /= 16;  // below the rounding of both
  write_adapter();
  EXPECT_EQ(export_checkpoint(half, adapter_, output_, {.overwrite = true}).adapter_kept, 0);
  EXPECT_EQ(export_checkpoint(half, "", output_, {.overwrite = true}).adapter_kept, 1);
}

// What was merged once is known by the weights themselves, whatever the adapter is called then.
TEST_F(Export, RefusesAnAdapterThatIsMergedAlready) {
  adapter_tensors_.pop_back();  // the copy of the head would tell, too
  write_adapter();
  for (const int64_t shard : {1000, 100}) {
    export_checkpoint(base_, adapter_, output_, {.max_shard_bytes = shard, .overwrite = true});
    const auto again = [&](const fs::path& adapter) {
      return message_of<DataError>([&] { export_checkpoint(output_, adapter, directory_ / "twice"); });
    };
    EXPECT_THAT(again(adapter_),
                AllOf(HasSubstr("this adapter is merged into"), HasSubstr("merged_adapters")));
    fs::copy(adapter_, directory_ / "renamed",
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    for (auto& [name, tensor] : adapter_tensors_) name.insert(name.rfind(".weight"), ".other");
    write_safetensors(directory_ / "renamed/adapter_model.safetensors", adapter_tensors_);
    EXPECT_THAT(again(directory_ / "renamed"), HasSubstr("this adapter is merged into"));
    for (auto& [name, tensor] : adapter_tensors_) name.erase(name.rfind(".other"), 6);
    // a further export keeps the mark, and another adapter goes
    export_checkpoint(output_, "", directory_ / "further", {.overwrite = true});
    EXPECT_THAT(message_of<DataError>(
                    [&] { export_checkpoint(directory_ / "further", adapter_, directory_ / "twice"); }),
                HasSubstr("already"));
  }
  EXPECT_FALSE(fs::exists(directory_ / "twice"));
  for (auto& [name, tensor] : adapter_tensors_)
    if (name.find("lora_B") != std::string::npos) tensor = -tensor;
  write_adapter();
  export_checkpoint(output_, adapter_, directory_ / "twice");
  EXPECT_THAT(SafetensorsReader(directory_ / "twice").metadata().at("merged_adapters"), HasSubstr(","));
}

TEST_F(Export, TakesAnAdapterInASubFolder) {
  fs::create_directories(directory_ / "saved");
  fs::rename(adapter_, directory_ / "saved/sft");
  EXPECT_EQ(export_checkpoint(base_, directory_ / "saved", output_).num_merged, 3);
}

TEST_F(Export, WithoutAnAdapterKeepsEveryBit) {
  const ExportSummary summary = export_checkpoint(base_, "", output_);
  EXPECT_EQ(summary.num_merged, 0);
  for (const auto& [name, tensor] : base_tensors_)
    EXPECT_TRUE(SafetensorsReader(output_).tensor(name).equal(tensor)) << name;
}

TEST_F(Export, AcceptsTrainingCheckpointsAndAdapterDirectories) {
  // a training checkpoint: step-5/policy with an adapter that names its base
  config_["base_model_name_or_path"] = base_.string();
  write_adapter();
  write_file_atomic(adapter_ / "config.json", "{}");
  fs::create_directories(directory_ / "run/checkpoints/step-5");
  fs::copy(adapter_, directory_ / "run/checkpoints/step-5/policy", fs::copy_options::recursive);
  fs::create_symlink("step-5", directory_ / "run/checkpoints/latest");
  for (const fs::path& checkpoint : {directory_ / "run/checkpoints/step-5", directory_ / "run", adapter_}) {
    export_checkpoint(checkpoint, "", output_, {.overwrite = true});
    EXPECT_TRUE(SafetensorsReader(output_).tensor("llm.lm_head.weight").equal(at::full({5, 3}, 4.0f)))
        << checkpoint;
    EXPECT_EQ(read_file(output_ / "config.json"), read_file(base_ / "config.json"));
  }
  EXPECT_THAT(message_of<ConfigError>(
                  [&] { export_checkpoint(directory_ / "run", adapter_, output_, {.overwrite = true}); }),
              AllOf(HasSubstr("policy holds an adapter already"), HasSubstr("found another one")));
}

TEST_F(Export, NeverReplacesWhatItShouldNot) {
  fs::create_directories(output_);
  EXPECT_EQ(complaint(), "(nothing thrown)");  // an empty directory
  EXPECT_THAT(complaint(), AllOf(HasSubstr("out is not empty"), HasSubstr("--overwrite")));
  EXPECT_EQ(complaint({.overwrite = true}), "(nothing thrown)");
  fs::remove(output_ / "config.json");
  EXPECT_THAT(complaint({.overwrite = true}), AllOf(HasSubstr("no checkpoint"), HasSubstr("config.json")));
  for (const fs::path& output : {base_, adapter_, directory_.path(), base_ / "..", base_ / "."})
    EXPECT_THAT(
        message_of<ConfigError>([&] { export_checkpoint(base_, adapter_, output, {.overwrite = true}); }),
        HasSubstr("would replace what is exported"))
        << output;
  write_file_atomic(directory_ / "file", "");
  EXPECT_THAT(message_of<ConfigError>([&] { export_checkpoint(base_, adapter_, directory_ / "file"); }),
              HasSubstr("found the file"));
  EXPECT_THAT(message_of<ConfigError>([&] { export_checkpoint(base_, adapter_, ""); }),
              HasSubstr("found nothing"));
  EXPECT_TRUE(SafetensorsReader(base_).has("llm.norm.weight"));
}

TEST_F(Export, RefusesWrongOptions) {
  EXPECT_THAT(complaint({.dtype = "int8"}),
              HasSubstr("dtype: expected stored, float32, bfloat16 or float16, found \"int8\""));
  EXPECT_THAT(complaint({.max_shard_bytes = 0}), HasSubstr("max_shard_bytes: expected at least 1, found 0"));
  EXPECT_FALSE(fs::exists(output_));
}

TEST_F(Export, RefusesAnAdapterOfAnotherBase) {
  const NamedTensors before = adapter_tensors_;
  adapter_tensors_[0].second = at::ones({2, 4});
  write_adapter();
  EXPECT_THAT(complaint(), AllOf(HasSubstr("llm.q_proj.lora_A.weight"), HasSubstr("[4, 4]"),
                                 HasSubstr("[4, 3]"), HasSubstr("as llm.q_proj.weight")));
  adapter_tensors_ = before;
  adapter_tensors_[0].first = "base_model.model.llm.k_proj.lora_A.weight";
  adapter_tensors_[1].first = "base_model.model.llm.k_proj.lora_B.weight";
  write_adapter();
  EXPECT_THAT(complaint(), AllOf(HasSubstr("adapter_model.safetensors"),
                                 HasSubstr("the layer llm.k_proj, which"), HasSubstr("lacks")));
  adapter_tensors_ = before;
  adapter_tensors_[6].second = at::full({5, 3}, 1.1f);
  write_adapter();
  EXPECT_THAT(complaint(), AllOf(HasSubstr("the copy of llm.lm_head.weight"), HasSubstr("another base"),
                                 HasSubstr("trained beside the adapter")));
  adapter_tensors_[6].second = at::ones({4, 3});
  write_adapter();
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("the copy of llm.lm_head.weight"), HasSubstr("[5, 3]"), HasSubstr("[4, 3]")));
  adapter_tensors_[6].first = "base_model.model.llm.other.base_layer.weight";
  write_adapter();
  EXPECT_THAT(complaint(), AllOf(HasSubstr("a copy of llm.other.weight, which"), HasSubstr("lacks")));
  EXPECT_FALSE(fs::exists(output_));
}

TEST_F(Export, RefusesWhatIsNotFinite) {
  adapter_tensors_[5].second = at::full({5, 2}, 30000.0f);  // 90001 is beyond float16
  write_adapter();
  EXPECT_THAT(complaint({.dtype = "float16"}),
              AllOf(HasSubstr("tensor llm.lm_head.weight"), HasSubstr("not finite in Half")));
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_FALSE(fs::exists(output_.string() + ".partial"));
}

TEST_F(Export, NamesABrokenBaseOrAdapter) {
  EXPECT_THAT(message_of<DataError>([&] { export_checkpoint(directory_ / "nowhere", "", output_); }),
              HasSubstr("nowhere"));
  EXPECT_THAT(message_of<DataError>([&] { export_checkpoint(base_, directory_ / "nowhere", output_); }),
              HasSubstr("nowhere/adapter_config.json"));
  config_["use_dora"] = true;
  write_adapter();
  EXPECT_THAT(complaint(), HasSubstr("use_dora"));
  const fs::path shard = base_ / "model-00002-of-00003.safetensors";
  fs::resize_file(shard, fs::file_size(shard) - 5);
  EXPECT_THAT(message_of<DataError>([&] { export_checkpoint(base_, "", output_); }),
              AllOf(HasSubstr("model-00002-of-00003.safetensors"), HasSubstr("truncated")));
  fs::remove(shard);
  EXPECT_THAT(
      message_of<DataError>([&] { export_checkpoint(base_, "", output_); }),
      AllOf(HasSubstr("index.json"), HasSubstr("model-00002-of-00003.safetensors"), HasSubstr("missing")));
  EXPECT_FALSE(fs::exists(output_));
}

// Equal roads: base with adapter, and the exported weights alone. The sum in another order moves the last
// digits.
class ExportedOpenVla : public ::testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(ExportedOpenVla, ScoresLikeBaseAndAdapter) {
  const auto& [variant, adapter] = GetParam();
  const testing::OpenVlaGolden golden(variant);
  const TempDir directory;
  const ExportSummary summary =
      export_checkpoint(golden.directory / "checkpoint", golden.directory / adapter, directory / "out",
                        {.dtype = "float32", .max_shard_bytes = 100'000});
  EXPECT_GT(summary.num_merged, 10);
  EXPECT_GT(summary.weights.size(), 2u);
  const auto with_adapter = golden.policy(adapter);
  PolicyOptions options;
  options.checkpoint = (directory / "out").string();
  options.unnorm_key = golden.json["unnorm_key"];
  options.of<OpenVlaOptions>().dtype = "float32";
  const auto merged = make_policy(options, nullptr, 0, at::kCPU);
  const at::NoGradGuard no_grad;
  const ActionTokens tokens = golden.tokens(*merged);
  const at::Tensor expected = with_adapter->score(golden.input(), tokens).logits.whole(),
                   found = merged->score(golden.input(), tokens).logits.whole();
  EXPECT_LT(apo::testing::distance(expected, found), 2e-4);
  EXPECT_GT(
      (found - golden.policy()->score(golden.input(), tokens).logits.whole()).abs().max().item<double>(),
      1e-2);
}

// Merged by a program that leaves no mark (peft does not): the weights themselves show it.
TEST_P(ExportedOpenVla, TakesNoAdapterThatIsMergedElsewhere) {
  const auto& [variant, adapter] = GetParam();
  const testing::OpenVlaGolden golden(variant);
  const TempDir directory;
  export_checkpoint(golden.directory / "checkpoint", golden.directory / adapter, directory / "out",
                    {.dtype = "float32"});
  NamedTensors tensors;
  const SafetensorsReader merged(directory / "out");
  for (const std::string& name : merged.names()) tensors.emplace_back(name, merged.tensor(name));
  fs::remove(directory / "out/model.safetensors.index.json");
  write_safetensors(directory / "out/model.safetensors", tensors, {{"format", "pt"}});
  PolicyOptions options;
  options.checkpoint = (directory / "out").string();
  options.unnorm_key = golden.json["unnorm_key"];
  options.adapter = (golden.directory / adapter).string();
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              AllOf(HasSubstr("merged into"), HasSubstr("already")));
}

INSTANTIATE_TEST_SUITE_P(All, ExportedOpenVla,
                         ::testing::Values(std::pair{"a", "adapter_old"}, std::pair{"a", "adapter_new"},
                                           std::pair{"b", "adapter_old"}, std::pair{"b", "adapter_pattern"}));

}  // namespace
}  // namespace apo::models
