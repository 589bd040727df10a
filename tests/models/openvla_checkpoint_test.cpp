// OpenVLA checkpoints that are not as they should be: each message names file, key or tensor.
#include <gmock/gmock.h>
#include <torch/types.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "models/openvla_fixture.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OpenVlaGolden;
namespace fs = std::filesystem;

const OpenVlaGolden& golden() {
  static const OpenVlaGolden instance("b");
  return instance;
}

class BrokenOpenVla : public ::testing::Test {
 protected:
  BrokenOpenVla() {
    for (const auto& entry : fs::directory_iterator(golden().directory / "checkpoint"))
      fs::copy_file(entry.path(), path / entry.path().filename());
    for (const auto& entry : fs::directory_iterator(path))
      fs::permissions(entry.path(), fs::perms::owner_write, fs::perm_options::add);
  }
  void edit(const std::string& file, const std::function<void(nlohmann::json&)>& change) {
    auto json = nlohmann::json::parse(read_file(path / file));
    change(json);
    std::ofstream(path / file) << json;
  }
  template <class Kind = DataError>
  std::string complaint(PolicyOptions options = {}) {
    options.checkpoint = path.string();
    if (options.unnorm_key.empty()) options.unnorm_key = golden().json["unnorm_key"];
    return message_of<Kind>([&] { make_policy(options, nullptr, 0, at::kCPU); });
  }
  std::string first_shard() {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.path().filename().string().starts_with("model-00001"))
        return entry.path().filename().string();
    return {};
  }
  apo::testing::TempDir directory;
  fs::path path = directory.path();
};

TEST_F(BrokenOpenVla, IsWholeToBeginWith) { EXPECT_EQ(complaint(), "(nothing thrown)"); }

TEST_F(BrokenOpenVla, NamesAMissingFile) {
  for (const char* file : {"config.json", "preprocessor_config.json", "tokenizer.model"}) {
    const std::string text = read_file(path / file);
    fs::remove(path / file);
    EXPECT_THAT(complaint(), HasSubstr((path / file).string()));
    std::ofstream(path / file) << text;
  }
  const std::string shard = first_shard();
  fs::remove(path / shard);
  EXPECT_THAT(complaint(), AllOf(HasSubstr(shard), HasSubstr("is missing")));
  fs::remove(path / "model.safetensors.index.json");
  EXPECT_THAT(complaint(), HasSubstr("expected model.safetensors or model.safetensors.index.json"));
}

constexpr const char* kLfsPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:abababababababababababababababab\nsize 499723\n";

// A clone without Git LFS.
TEST_F(BrokenOpenVla, NamesAGitLfsPointer) {
  for (const std::string& file : {std::string("tokenizer.model"), first_shard(), std::string("config.json"),
                                  std::string("model.safetensors.index.json")}) {
    const std::string text = read_file(path / file);
    write_file_atomic(path / file, kLfsPointer);
    EXPECT_THAT(complaint(), AllOf(HasSubstr((path / file).string() + ": found a Git LFS pointer"),
                                   HasSubstr("git lfs pull")));
    write_file_atomic(path / file, text);
  }
  EXPECT_EQ(complaint(), "(nothing thrown)");
}

TEST_F(BrokenOpenVla, NamesAFastTokenizerAlone) {
  fs::remove(path / "tokenizer.model");
  write_file_atomic(path / "tokenizer.json", "{}");
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr("tokenizer.model: missing"), HasSubstr("found tokenizer.json alone"),
                    HasSubstr("hf download openvla/openvla-7b tokenizer.model")));
}

TEST_F(BrokenOpenVla, NamesAHubName) {
  EXPECT_THAT(message_of<DataError>([&] {
                make_policy({.checkpoint = (path / "openvla/openvla-7b").string()}, nullptr, 0, at::kCPU);
              }),
              AllOf(HasSubstr("no such checkpoint"),
                    HasSubstr("if openvla/openvla-7b is a name on the Hugging Face hub"),
                    HasSubstr("hf download openvla/openvla-7b --local-dir DIR")));
}

TEST_F(BrokenOpenVla, NamesStatisticsOfOpenpi) {
  write_file_atomic(
      path / "norm_stats.json",
      R"({"norm_stats": {"state": {"mean": [0]}, "actions": {"mean": [0], "q01": [0], "q99": [1]}}})");
  EXPECT_EQ(complaint(), "(nothing thrown)");  // it has its own
  EXPECT_THAT(complaint({.statistics = (path / "norm_stats.json").string()}),
              AllOf(HasSubstr("norm_stats.json: found openpi's statistics"), HasSubstr("apo-data stats")));
  fs::remove(path / "dataset_statistics.json");
  edit("config.json", [](nlohmann::json& json) { json.erase("norm_stats"); });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("found openpi's norm_stats.json"), HasSubstr("apo-data stats")));
}

// total_size is for those who plan their memory; some tools write it wrong.
TEST_F(BrokenOpenVla, AWrongTotalSizeIsNoMatter) {
  edit("model.safetensors.index.json", [](nlohmann::json& json) { json["metadata"]["total_size"] = 1; });
  EXPECT_EQ(complaint(), "(nothing thrown)");
}

TEST_F(BrokenOpenVla, NamesATruncatedShard) {
  fs::resize_file(path / first_shard(), fs::file_size(path / first_shard()) - 100);
  EXPECT_THAT(complaint(), AllOf(HasSubstr(first_shard()), HasSubstr("truncated")));
}

TEST_F(BrokenOpenVla, NamesAMissingUnexpectedOrMisshapenTensor) {
  const SafetensorsReader whole(golden().directory / "checkpoint");
  const auto write = [&](const std::function<void(NamedTensors&)>& change) {
    NamedTensors tensors;
    for (const std::string& name : whole.names()) tensors.emplace_back(name, whole.tensor(name));
    change(tensors);
    fs::remove(path / "model.safetensors.index.json");
    write_safetensors(path / "model.safetensors", tensors);
  };
  const auto is_norm = [](const auto& entry) { return entry.first == "language_model.model.norm.weight"; };
  write([&](NamedTensors& all) { std::erase_if(all, is_norm); });
  EXPECT_THAT(complaint(), HasSubstr("tensor language_model.model.norm.weight is missing"));
  write([&](NamedTensors& all) { std::ranges::find_if(all, is_norm)->second = at::ones({5}); });
  EXPECT_THAT(complaint(), HasSubstr("tensor language_model.model.norm.weight: expected [96], found [5]"));
  write([&](NamedTensors& all) { std::ranges::find_if(all, is_norm)->second = at::ones({96}, at::kInt); });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("language_model.model.norm.weight"), HasSubstr("found Int")));
  write([&](NamedTensors& all) { all.emplace_back("stranger", at::ones({1})); });
  EXPECT_THAT(complaint(), HasSubstr("tensor stranger is not expected"));
  // what older transformers stored beside the weights is no stranger, and neither is timm's own name
  write([&](NamedTensors& all) {
    all.emplace_back("language_model.model.layers.0.self_attn.rotary_emb.inv_freq", at::ones({12}));
    for (auto& [name, tensor] : all)
      if (name.ends_with(".scale_factor")) name = name.substr(0, name.rfind('.')) + ".gamma";
  });
  EXPECT_EQ(complaint(), "(nothing thrown)");
}

TEST_F(BrokenOpenVla, NamesATokenizerThatDoesNotFit) {
  edit("config.json", [](nlohmann::json& json) { json["pad_to_multiple_of"] = 128; });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("tokenizer.model"), HasSubstr("pieces; expected 544")));
  std::ofstream(path / "tokenizer.model") << "no model";
  EXPECT_THAT(complaint(), HasSubstr("tokenizer.model"));
}

TEST_F(BrokenOpenVla, NamesTheStatisticsThatThereAre) {
  EXPECT_THAT(complaint({.unnorm_key = "garage"}),
              AllOf(HasSubstr("garage"), HasSubstr(golden().json["unnorm_key"])));
}

// q01 = q99: every action is that number there, with a warning.
TEST_F(BrokenOpenVla, StatisticsWithoutSpreadAreDefined) {
  std::ofstream(path / "dataset_statistics.json")
      << R"({"flat": {"action": {"q01": [0, 0, 1], "q99": [1, 1, 1], "mean": [0,0,0], "std": [1,1,1], "min": [0,0,0], "max": [1,1,1]}}})";
  PolicyOptions options{.checkpoint = path.string(), .unnorm_key = "flat"};
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  const std::vector<Action> actions{{0.5f, 0.25f, 1.0f}, {0.5f, 0.25f, 3.0f}};
  const ActionTokens tokens = policy->tokenize(actions);
  EXPECT_EQ(policy->to_actions(tokens.ids).actions[0][0][2], 1.0f);
  EXPECT_EQ(policy->to_actions(tokens.ids).actions[1][0][2], 1.0f);
}

TEST_F(BrokenOpenVla, NamesFieldsOfTheConfig) {
  edit("config.json", [](nlohmann::json& json) { json["text_config"]["num_attention_heads"] = 5; });
  EXPECT_THAT(complaint(), HasSubstr("expected rows for 5 heads"));
  edit("config.json", [](nlohmann::json& json) {
    json["text_config"]["num_attention_heads"] = 4;
    json["image_sizes"] = {224, 224};
  });
  EXPECT_THAT(complaint(), HasSubstr("image_sizes"));
  edit("config.json", [](nlohmann::json& json) {
    json["image_sizes"] = {42, 42};
    json["image_resize_strategy"] = "stretch";
  });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("image_resize_strategy"), HasSubstr("stretch")));
  edit("config.json", [](nlohmann::json& json) {
    json["image_resize_strategy"] = "letterbox";
    json["text_config"]["rope_scaling"] = {{"rope_type", "linear"}};
  });
  EXPECT_THAT(complaint(), HasSubstr("rope_scaling"));
  edit("config.json", [](nlohmann::json& json) {
    json["text_config"].erase("rope_scaling");
    json["text_config"]["rope_parameters"] = {{"rope_theta", -5}};
  });
  EXPECT_THAT(complaint(), HasSubstr("rope_theta: expected a number > 0, found -5"));
  edit("config.json", [](nlohmann::json& json) {
    json["text_config"].erase("rope_parameters");
    json["text_config"]["hidden_act"] = "gelu";
  });
  EXPECT_THAT(complaint(), HasSubstr("hidden_act: expected \"silu\", found \"gelu\""));
  edit("config.json", [](nlohmann::json& json) { json["text_config"] = {1}; });
  EXPECT_THAT(complaint(), HasSubstr("text_config: expected an object"));
}

TEST_F(BrokenOpenVla, RefusesAnAdapterForAnotherBase) {
  const OpenVlaGolden other("a");
  EXPECT_THAT(complaint({.adapter = (other.directory / "adapter_new").string(), .lora = {.rank = 2}}),
              HasSubstr("adapter_model.safetensors"));
}

// The older peft's copy of the head beside the adapter gives it away.
TEST_F(BrokenOpenVla, RefusesAnAdapterWhoseCopyOfTheHeadDiffers) {
  const SafetensorsReader whole(golden().directory / "checkpoint");
  NamedTensors tensors;
  for (const std::string& name : whole.names())
    tensors.emplace_back(name,
                         name.ends_with("lm_head.weight") ? whole.tensor(name) * -1 : whole.tensor(name));
  fs::remove(path / "model.safetensors.index.json");
  write_safetensors(path / "model.safetensors", tensors);
  EXPECT_THAT(complaint({.adapter = (golden().directory / "adapter_old").string()}),
              HasSubstr("belongs to another base"));
}

TEST_F(BrokenOpenVla, SaysWhichPictureItNeeds) {
  const auto policy = golden().policy();
  std::vector<Observation> one{golden().observations()[0]};
  one[0].images["wrist"] = one[0].images["agentview"];
  EXPECT_THAT(message_of<DataError>([&] { policy->encode(one); }),
              AllOf(HasSubstr("agentview, wrist"), HasSubstr("policy.cameras")));
  const auto chosen = golden().policy("", {.cameras = {"wrist"}});
  EXPECT_EQ(message_of<DataError>([&] { chosen->encode(one); }), "(nothing thrown)");
  one[0].images.clear();
  EXPECT_THAT(message_of<DataError>([&] { chosen->encode(one); }), HasSubstr("\"wrist\"; there are: none"));
}

}  // namespace
}  // namespace apo::models
