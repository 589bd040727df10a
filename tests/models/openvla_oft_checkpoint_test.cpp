// OpenVLA-OFT checkpoints that are not as they should be: each message names file, key or tensor.
#include <gmock/gmock.h>
#include <torch/types.h>

#include "models/openvla_oft_fixture.h"

namespace apo::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::OftGolden;
namespace fs = std::filesystem;

const std::string kProjector = "proprio_projector--7_checkpoint.pt";

class BrokenOft : public ::testing::Test {
 protected:
  template <class Kind = DataError>
  std::string complaint(const PolicyOptions& options) {
    return message_of<Kind>([&] { make_policy(options, nullptr, 0, at::kCPU); });
  }
  template <class Kind = DataError>
  std::string complaint() {
    return complaint<Kind>(golden.options());
  }
  void put(const std::string& name, const std::string& text) {
    write_file_atomic(golden.checkpoint() / name, text);
  }
  void remove(const std::string& name) { fs::remove(golden.checkpoint() / name); }
  PolicyOptions plain() const { return {.checkpoint = golden.checkpoint().string()}; }
  OftGolden golden{"a"};
};

TEST_F(BrokenOft, IsWholeToBeginWith) { EXPECT_EQ(complaint(), "(nothing thrown)"); }

TEST_F(BrokenOft, PartsWithoutActionProbabilitiesAreRefusedWithAReason) {
  for (const auto& [name, why] : {std::pair("action_head--7_checkpoint.pt", "no action probabilities"),
                                  std::pair("noisy_action_projector--latest_checkpoint.pt", "diffusion"),
                                  std::pair("vision_backbone--7_checkpoint.pt", "FiLM")}) {
    put(name, "");
    for (const PolicyOptions& options : {golden.options(), plain()})
      EXPECT_THAT(complaint(options), AllOf(HasSubstr(name), HasSubstr(why), HasSubstr("apo-data label")));
    remove(name);
  }
}

TEST_F(BrokenOft, SignsWithoutTheKeyAreRefusedWithAdvice) {
  const auto advice =
      AllOf(HasSubstr("looks like an OpenVLA-OFT"), HasSubstr("policy.openvla.chunk_steps (LIBERO 8"),
            HasSubstr("policy.action_normalization"));
  EXPECT_THAT(complaint(plain()), AllOf(advice, HasSubstr("state projector")));
  remove(kProjector);
  EXPECT_EQ(complaint(plain()), "(nothing thrown)");  // nothing tells it from a plain OpenVLA
  put("modeling_prismatic.py", "from prismatic.vla.constants import NUM_ACTIONS_CHUNK\n");
  EXPECT_THAT(complaint(plain()), AllOf(advice, HasSubstr("modeling_prismatic.py")));
  put("modeling_prismatic.py", "class OpenVLAForActionPrediction: pass\n");
  EXPECT_EQ(complaint(plain()), "(nothing thrown)");
  put("constants.py", "NUM_ACTIONS_CHUNK = 8\n");
  EXPECT_THAT(complaint(plain()), AllOf(advice, HasSubstr("constants.py")));
  remove("constants.py");
  golden.edit("config.json", [](nlohmann::json& json) { json["num_action_chunks"] = 8; });
  EXPECT_THAT(complaint(plain()), AllOf(advice, HasSubstr("num_action_chunks")));
}

TEST_F(BrokenOft, WhatTheConfigSaysMustAgree) {
  golden.edit("config.json", [](nlohmann::json& json) { json["num_action_chunks"] = 8; });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("num_action_chunks: is 8"), HasSubstr("chunk_steps 4")));
  golden.edit("config.json", [](nlohmann::json& json) {
    json["num_action_chunks"] = 4;
    json["apo"] = {{"chunk_steps", 5}};
  });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("apo.chunk_steps: is 5"), HasSubstr("chunk_steps 4")));
  golden.edit("config.json", [](nlohmann::json& json) { json["apo"] = {{"chunk_steps", "four"}}; });
  EXPECT_THAT(complaint(), HasSubstr("apo.chunk_steps"));
}

TEST_F(BrokenOft, TheStateProjectorAndTheStateGoTogether) {
  PolicyOptions without = golden.options();
  without.state_keys.clear();
  EXPECT_THAT(complaint<ConfigError>(without), AllOf(HasSubstr("policy.state_keys"), HasSubstr(kProjector)));
  put("proprio_projector--latest_checkpoint.pt", "");
  EXPECT_THAT(complaint(), AllOf(HasSubstr("expected one state projector"), HasSubstr(kProjector)));
  remove("proprio_projector--latest_checkpoint.pt");
  remove(kProjector);
  EXPECT_THAT(complaint<ConfigError>(),
              AllOf(HasSubstr("policy.state_keys"), HasSubstr("no state projector")));
}

TEST_F(BrokenOft, TheStateProjectorMayBeAmongTheWeights) {
  const auto scores = [&](Policy& policy) {
    return policy.score(policy.encode(golden.observations()), policy.tokenize(golden.chunks()))
        .logits.whole()
        .detach();
  };
  const at::Tensor beside = scores(*golden.policy());
  const OftGolden other("a");
  const apo::testing::TempDir temp;
  const auto policy = golden.policy();
  policy->save(temp.path());  // which writes it among the weights
  const SafetensorsReader written(temp.path());
  NamedTensors tensors;
  for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"})
    tensors.emplace_back("proprio_projector." + std::string(name),
                         written.tensor("proprio_projector." + std::string(name)));
  remove(kProjector);
  golden.write_weights(tensors);
  EXPECT_TRUE(scores(*golden.policy()).equal(beside));
  tensors.emplace_back("value_head.head_l1.weight", at::ones({3, 64}));  // of RLinf's PPO: left alone
  golden.write_weights(tensors);
  EXPECT_EQ(complaint(), "(nothing thrown)");
  tensors.emplace_back("proprio_projector.fc3.weight", at::ones({3}));
  golden.write_weights(tensors);
  EXPECT_THAT(complaint(), HasSubstr("tensor proprio_projector.fc3.weight is not expected"));
}

TEST_F(BrokenOft, AStateOfAnotherSize) {
  PolicyOptions options = golden.options();
  options.state_keys = {"eef_pos"};
  const auto policy = golden.policy(options);  // proprio is of 5 numbers, whatever they are called
  const std::vector<Observation> seen = golden.observations();
  EXPECT_THAT(message_of<DataError>([&] { policy->encode(seen); }),
              AllOf(HasSubstr("eef_pos"), HasSubstr("expected 5 numbers"), HasSubstr("found 3")));
  options.state_keys = {"joints"};
  EXPECT_THAT(message_of<DataError>([&] { golden.policy(options)->encode(seen); }),
              AllOf(HasSubstr("\"joints\""), HasSubstr("eef_pos, gripper_qpos")));
  golden.edit("dataset_statistics.json", [](nlohmann::json& json) {
    nlohmann::json& proprio = json["place_cup"]["proprio"];
    for (const char* key : {"mean", "std", "min", "max", "q01", "q99"}) proprio[key].erase(0);
  });
  EXPECT_THAT(complaint(),
              AllOf(HasSubstr(kProjector), HasSubstr("takes a state of 5 numbers"), HasSubstr("have 4")));
  golden.edit("dataset_statistics.json", [](nlohmann::json& json) { json["place_cup"].erase("proprio"); });
  EXPECT_THAT(complaint(), AllOf(HasSubstr("dataset_statistics.json"), HasSubstr("statistics of the state")));
}

TEST_F(BrokenOft, AbsentCameras) {
  PolicyOptions options = golden.options();
  options.cameras = {"agentview", "head"};
  std::vector<Observation> seen = golden.observations();
  EXPECT_THAT(message_of<DataError>([&] { golden.policy(options)->encode(seen); }),
              AllOf(HasSubstr("\"head\""), HasSubstr("agentview, wrist")));
  options.cameras.clear();
  EXPECT_THAT(message_of<DataError>([&] { golden.policy(options)->encode(seen); }),
              AllOf(HasSubstr("expected one camera"), HasSubstr("policy.cameras")));
}

TEST_F(BrokenOft, OptionsOfAnOftForAPlainOpenVla) {
  remove(kProjector);
  PolicyOptions options = plain();
  options.of<OpenVlaOptions>().stop_token = "false";
  EXPECT_THAT(complaint<ConfigError>(options), HasSubstr("policy.openvla.stop_token"));
  options = plain();
  options.state_keys = {"eef_pos"};
  EXPECT_THAT(complaint<ConfigError>(options), HasSubstr("policy.state_keys"));
}

TEST_F(BrokenOft, MoreThanTheSequenceHoldsAndMoreThanAChunk) {
  golden.edit("config.json",
              [](nlohmann::json& json) { json["text_config"]["max_position_embeddings"] = 50; });
  const auto policy = golden.policy();
  EXPECT_THAT(message_of<DataError>([&] { policy->encode(golden.observations()); }),
              AllOf(HasSubstr("expected at most 50"), HasSubstr("28 action tokens")));
  PolicyOptions options = golden.options();
  options.execute_steps = 5;
  EXPECT_THAT(complaint<ConfigError>(options),
              AllOf(HasSubstr("policy.execute_steps"), HasSubstr("at most 4")));
  options.execute_steps = 3;
  EXPECT_EQ(golden.policy(options)->execute_steps(), 3);
}

TEST_F(BrokenOft, LiberosNamesOfDataSets) {
  OftGolden libero("b");
  PolicyOptions options = libero.options();
  options.unnorm_key = "libero_10";  // the file says libero_10_no_noops
  EXPECT_EQ(complaint(options), "(nothing thrown)");
  options.unnorm_key = "libero_goal";
  EXPECT_THAT(complaint(options), AllOf(HasSubstr("libero_goal"), HasSubstr("libero_10_no_noops")));
}

// Every byte that is not as torch.save wrote it: refused, or read as other numbers; nothing else.
TEST_F(BrokenOft, ADamagedStateProjectorNeverCrashes) {
  const std::string whole = read_file(golden.checkpoint() / kProjector);
  for (size_t i = 0; i < whole.size(); i += 97) {
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 0x41);
    std::ofstream(golden.checkpoint() / kProjector, std::ios::binary) << changed;
    try {
      make_policy(golden.options(), nullptr, 0, at::kCPU);
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr(kProjector));
    }
  }
  put(kProjector, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(complaint(), AllOf(HasSubstr(kProjector), HasSubstr("torch.save")));
}

}  // namespace
}  // namespace apo::models
