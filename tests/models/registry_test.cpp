#include "apo/models/registry.h"

#include <gmock/gmock.h>
#include <torch/types.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "apo/base/files.h"
#include "apo/config/options.h"
#include "apo/data/dataset.h"
#include "apo/data/trajectory.h"
#include "apo/models/safetensors.h"
#include "apo/training/policy_data.h"
#include "models/small_world.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::small_policy;

// RUN/checkpoints/step-{1,2}/policy with `latest` written by the caller.
void make_run(const fs::path& run) {
  for (const char* step : {"step-1", "step-2"}) {
    fs::create_directories(run / "checkpoints" / step / "policy");
    small_policy()->save(run / "checkpoints" / step / "policy");
  }
}

TEST(ResolveCheckpoint, TakesAPolicyAStepALatestOrARun) {
  const TempDir directory;
  const fs::path run = directory / "run", checkpoints = run / "checkpoints",
                 expected = checkpoints / "step-2" / "policy";
  make_run(run);
  EXPECT_EQ(resolve_checkpoint(expected), expected);
  EXPECT_EQ(resolve_checkpoint(checkpoints / "step-2"), expected);
  for (const bool link : {false, true}) {
    fs::remove(checkpoints / "latest");
    if (link)
      fs::create_directory_symlink("step-2", checkpoints / "latest");
    else
      std::ofstream(checkpoints / "latest") << "step-2\n";
    for (const fs::path& path : {run, checkpoints, checkpoints / "latest"}) {
      EXPECT_TRUE(fs::equivalent(resolve_checkpoint(path), expected)) << path << link;
    }
  }
}

TEST(ResolveCheckpoint, SaysWhereItLooked) {
  const TempDir directory;
  EXPECT_THAT(message_of<DataError>([&] { resolve_checkpoint(directory / "nowhere"); }),
              HasSubstr("nowhere: no such checkpoint"));
  EXPECT_THAT(message_of<DataError>([&] { resolve_checkpoint(directory.path()); }),
              AllOf(HasSubstr("no policy here"), HasSubstr("/config.json"), HasSubstr("/policy/config.json"),
                    HasSubstr("/checkpoints/latest")));
  make_run(directory.path());
  std::ofstream(directory / "checkpoints" / "latest") << "step-9";
  EXPECT_THAT(message_of<DataError>([&] { resolve_checkpoint(directory.path()); }),
              HasSubstr("step-9/policy/config.json"));
  std::ofstream(directory / "checkpoints" / "latest", std::ios::trunc) << "";
  EXPECT_THAT(message_of<DataError>([&] { resolve_checkpoint(directory.path()); }),
              HasSubstr("no policy here"));
}

class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() { small_policy()->save(directory_.path()); }
  std::string complaint() {
    return message_of<DataError>([&] { load_policy(directory_.path(), at::kCPU); });
  }
  std::string complaint(const std::string& file, const std::function<void(nlohmann::json&)>& change) {
    const std::string before = read_file(directory_ / file);
    auto json = nlohmann::json::parse(before);
    change(json);
    write_file_atomic(directory_ / file, json.dump());
    const std::string message = complaint();
    write_file_atomic(directory_ / file, before);
    return message;
  }
  std::string complaint_of_weights(const std::function<void(NamedTensors&)>& change) {
    const std::string before = read_file(directory_ / "model.safetensors");
    NamedTensors tensors;
    {
      const SafetensorsReader reader(directory_ / "model.safetensors");
      for (const std::string& name : reader.names()) tensors.emplace_back(name, reader.tensor(name).clone());
    }
    change(tensors);
    write_safetensors(directory_ / "model.safetensors", tensors);
    const std::string message = complaint();
    write_file_atomic(directory_ / "model.safetensors", before);
    return message;
  }
  TempDir directory_;
};

TEST_F(Checkpoint, LoadsAsItIs) { EXPECT_EQ(complaint(), "(nothing thrown)"); }

TEST_F(Checkpoint, NamesTensorsThatDoNotFit) {
  EXPECT_THAT(complaint_of_weights([](NamedTensors& tensors) {
                std::erase_if(tensors, [](const auto& t) { return t.first == "blocks.1.qkv.weight"; });
              }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("tensor blocks.1.qkv.weight is missing")));
  EXPECT_THAT(complaint_of_weights([](NamedTensors& tensors) {
                for (auto& [name, tensor] : tensors)
                  if (name == "head.bias") tensor = at::zeros({17});
              }),
              HasSubstr("tensor head.bias: expected [16], found [17]"));
  EXPECT_THAT(
      complaint_of_weights([](NamedTensors& tensors) { tensors.emplace_back("more", at::zeros({1})); }),
      HasSubstr("tensor more is not expected"));
  EXPECT_THAT(complaint_of_weights([](NamedTensors& tensors) { tensors[3].second.view(-1)[0] = NAN; }),
              HasSubstr("found NaN"));
}

TEST_F(Checkpoint, NamesATruncatedOrMissingFile) {
  fs::resize_file(directory_ / "model.safetensors", fs::file_size(directory_ / "model.safetensors") - 5);
  EXPECT_THAT(complaint(), AllOf(HasSubstr("model.safetensors"), HasSubstr("truncated")));
  fs::remove(directory_ / "model.safetensors");
  EXPECT_THAT(complaint(), HasSubstr("expected model.safetensors"));
  fs::remove(directory_ / "dataset_statistics.json");
  EXPECT_THAT(complaint(), HasSubstr("dataset_statistics.json"));
  fs::remove(directory_ / "preprocessor_config.json");
  EXPECT_THAT(complaint(), HasSubstr("preprocessor_config.json"));
}

TEST_F(Checkpoint, NamesAWrongConfig) {
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["model_type"] = "smal"; }),
              AllOf(HasSubstr("config.json: model_type: no kind of policy is called \"smal\""),
                    HasSubstr("did you mean \"small\"")));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json.erase("model_type"); }),
              HasSubstr("model_type: expected a text, found nothing"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["heads"] = 3; }),
              HasSubstr("width: expected an even multiple of heads"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["layers"] = -1; }),
              HasSubstr("layers: expected an integer from 1 to 1024, found -1"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["layers"] = "two"; }),
              HasSubstr("found \"two\""));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["width"] = 65536; }), HasSubstr("expected"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["action_size"] = 4; }),
              HasSubstr("action_size: config.json says 4"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["vocabulary"] = {"a"}; }),
              HasSubstr("vocabulary: expected a list of words"));
  EXPECT_THAT(complaint("config.json", [](auto& json) { json["vocabulary"][3] = "block"; }),
              HasSubstr("\"block\" is there twice"));
  EXPECT_THAT(complaint("preprocessor_config.json",
                        [](auto& json) {
                          json["state_keys"] = {"hand", "arm"};
                        }),
              HasSubstr("no statistics of the state \"arm\""));
  EXPECT_THAT(complaint("preprocessor_config.json", [](auto& json) { json["cameras"] = {"front"}; }),
              HasSubstr("cameras: config.json says 2"));
  EXPECT_THAT(complaint("preprocessor_config.json", [](auto& json) { json["interpolation"] = "nearest"; }),
              HasSubstr("interpolation"));
  const std::string bomb = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  std::ofstream(directory_ / "config.json", std::ios::trunc) << "{\"model_type\": " << bomb << "}";
  EXPECT_THAT(complaint(), HasSubstr("config.json: JSON nested too deeply, beyond 64 levels"));
  std::ofstream(directory_ / "config.json", std::ios::trunc) << "{";
  EXPECT_THAT(complaint(), HasSubstr("config.json:1: expected JSON, found the end of the file"));
}

TEST(MakePolicy, SuggestsTheTypeThatWasMeant) {
  const std::string message =
      message_of<ConfigError>([] { make_policy({.type = "smalll"}, nullptr, 0, at::kCPU); });
  EXPECT_THAT(message, AllOf(HasSubstr("policy.type: no kind of policy is called \"smalll\""),
                             HasSubstr("did you mean \"small\"?"), HasSubstr("Valid: ")));
  EXPECT_THAT(message_of<ConfigError>([] { make_policy({}, nullptr, 0, at::kCPU); }),
              HasSubstr("policy.checkpoint"));
}

// A policy of a stranger's: everything is the small one's, but it has a name of its own.
TEST(MakePolicy, KnowsARegisteredPolicy) {
  register_policy("stranger",
                  {.create = nullptr, .load = [](const PolicyOptions&, const fs::path& path, at::Device) {
                     EXPECT_TRUE(fs::exists(path / "config.json"));
                     return small_policy(77);
                   }});
  const TempDir directory;
  std::ofstream(directory / "config.json") << R"({"model_type": "stranger"})";
  EXPECT_EQ(parameter_hash(*load_policy(directory.path(), at::kCPU)), parameter_hash(*small_policy(77)));
}

class FreshPolicy : public ::testing::Test {
 protected:
  FreshPolicy() {
    data::TrajectoryWriter writer(
        directory_ / "demos.hdf5",
        {.environment_name = "none", .environment_config = "", .policy = "expert", .policy_hash = ""});
    Random random(1, "demos");
    for (const char* instruction : {"Pick up the red block", "pick up the BLUE block."}) {
      writer.begin_episode(instruction);
      for (int step = 0; step < 20; ++step) {
        Step recorded;
        recorded.observation = testing::observation(static_cast<uint64_t>(step), instruction);
        recorded.action = {static_cast<float>(random.uniform(-0.9, 0.9)),
                           static_cast<float>(random.uniform(-0.5, 0.1)), step % 2 ? 1.0f : -1.0f};
        recorded.source = ActionSource::expert;
        writer.append(recorded);
      }
      writer.end_episode(true, "success");
    }
  }
  data::Dataset dataset() const {
    data::DataOptions options;
    options.expert.push_back({.path = (directory_ / "demos.hdf5").string()});
    return data::Dataset(options);
  }
  static PolicyOptions options() {
    PolicyOptions options;
    options.state_keys = {"height", "hand"};
    options.of<SmallOptions>().image_size = 16;
    options.of<SmallOptions>().width = 16;
    options.of<SmallOptions>().layers = 1;
    options.of<SmallOptions>().heads = 2;
    options.of<SmallOptions>().channels = 4;
    options.of<SmallOptions>().action_bins = 32;
    return options;
  }
  TempDir directory_;
};

TEST_F(FreshPolicy, IsMadeForTheData) {
  const data::Dataset data = dataset();
  const DataFacts facts = training::data_facts(data);
  const auto policy = make_policy(options(), &facts, 3, at::kCPU);
  EXPECT_EQ(policy->action_size(), 3);
  EXPECT_EQ(policy->vocabulary_size(), 32);
  EXPECT_EQ(policy->codec().bins(), (tokenizers::TokenRange{0, 31}));
  const data::Sample sample = data.sample(data.kept_steps().front());
  const PolicyInput input = policy->encode({&sample.observation, 1});
  EXPECT_EQ(input.images.sizes(), at::IntArrayRef({1, 2, 3, 16, 16}));
  EXPECT_EQ(input.state.sizes(), at::IntArrayRef({1, 3}));
  // <pad> <unk> block blue pick red the up: "pick up the red block"
  EXPECT_TRUE(input.prompt.equal(torch::tensor({{4, 7, 6, 5, 2}}, at::kLong)));
  // Within q01..q99 an action comes back to half a bin; the last dimension is not normalised.
  const std::vector<Action> acted{{0.3f, -0.2f, 1.0f}};
  const std::vector<ActionChunk> back = policy->to_actions(policy->tokenize(acted).ids).actions;
  EXPECT_NEAR(back[0][0][0], 0.3, 0.9 / 31 + 0.001);
  EXPECT_NEAR(back[0][0][1], -0.2, 0.3 / 31 + 0.001);
  EXPECT_NEAR(back[0][0][2], 1, 1e-6);
  // the first mean state of the data is standardised to zero mean
  at::Tensor sum = at::zeros({3});
  for (const data::StepIndex& index : data.kept_steps()) {
    const data::Sample each = data.sample(index);
    sum += policy->encode({&each.observation, 1}).state[0];
  }
  EXPECT_LT((sum / 40).abs().max().item<double>(), 1e-4);
}

TEST_F(FreshPolicy, ComesBackFromItsDirectory) {
  const data::Dataset data = dataset();
  const DataFacts facts = training::data_facts(data);
  const auto policy = make_policy(options(), &facts, 3, at::kCPU);
  fs::create_directory(directory_ / "policy");
  policy->save(directory_ / "policy");
  const auto loaded = load_policy(directory_ / "policy", at::kCPU);
  EXPECT_EQ(parameter_hash(*loaded), parameter_hash(*policy));
  const data::Sample sample = data.sample(data.kept_steps().back());
  const PolicyInput mine = policy->encode({&sample.observation, 1}),
                    theirs = loaded->encode({&sample.observation, 1});
  EXPECT_TRUE(mine.state.equal(theirs.state));
  EXPECT_EQ(policy->act(mine).actions, loaded->act(theirs).actions);
}

TEST_F(FreshPolicy, AddsAnAdapterWhenAsked) {
  const data::Dataset data = dataset();
  const DataFacts facts = training::data_facts(data);
  PolicyOptions with = options();
  with.lora.rank = 2;
  const auto policy = make_policy(with, &facts, 3, at::kCPU);
  EXPECT_EQ(policy->adapter_slots()->active(), kTrainedSlot);
  for (const auto& [name, tensor] : trainable_parameters(*policy)) EXPECT_THAT(name, HasSubstr(".lora_"));
  EXPECT_EQ(trainable_parameters(*policy).size(), 2u * (3 + 2 + 4 + 1));
}

TEST_F(FreshPolicy, NamesWhatTheDataLacks) {
  const data::Dataset data = dataset();
  const DataFacts facts = training::data_facts(data);
  const auto complaint = [&](const std::function<void(PolicyOptions&)>& change) {
    PolicyOptions changed = options();
    change(changed);
    return message_of<ConfigError>([&] { make_policy(changed, &facts, 0, at::kCPU); });
  };
  EXPECT_THAT(complaint([](auto& o) { o.cameras = {"fornt"}; }),
              AllOf(HasSubstr("policy.cameras: the data has no \"fornt\""),
                    HasSubstr("did you mean \"front\"?"), HasSubstr("front, wrist")));
  EXPECT_THAT(complaint([](auto& o) { o.state_keys = {"arm"}; }),
              AllOf(HasSubstr("policy.state_keys"), HasSubstr("hand, height")));
  EXPECT_THAT(complaint([](auto& o) { o.template of<SmallOptions>().image_size = 40; }),
              HasSubstr("policy.small.image_size: expected a multiple of 16, found 40"));
  EXPECT_THAT(complaint([](auto& o) { o.template of<SmallOptions>().heads = 3; }),
              HasSubstr("policy.small.width"));
}

TEST(PolicyOptions, ReadsItsSection) {
  const auto options = config::load<PolicyOptions>(
      config::Document::from_text("checkpoint: base\ntype: small\nlora: {rank: 8, alpha: 4, init: gaussian, "
                                  "target_modules: 'qkv,out'}\nstate_keys: [hand]\nsmall: {image_size: 32}\n",
                                  {}, "/data"));
  EXPECT_EQ(options.checkpoint, "/data/base");
  EXPECT_EQ(options.lora.rank, 8);
  EXPECT_EQ(options.lora.init, "gaussian");
  EXPECT_EQ(options.of<SmallOptions>().image_size, 32);
  EXPECT_THAT(message_of<ConfigError>(
                  [] { config::load<PolicyOptions>(config::Document::from_text("lora: {rnak: 8}")); }),
              HasSubstr("rank"));
  EXPECT_THAT(message_of<ConfigError>(
                  [] { config::load<PolicyOptions>(config::Document::from_text("lora: {init: zeros}")); }),
              HasSubstr("kaiming"));
}

}  // namespace
}  // namespace apo::models
