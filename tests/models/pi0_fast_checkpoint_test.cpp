// What a pi0-FAST's directory may look like, and what is refused of it.
#include <gmock/gmock.h>
#include <torch/types.h>

#include <functional>

#include "apo/base/error.h"
#include "apo/models/description.h"
#include "apo/models/export.h"
#include "models/pi0_fast/names.h"
#include "models/pi0_fast/pictures.h"
#include "models/pi0_fast/prompt.h"
#include "models/pi0_fast_fixture.h"
#include "support/message_of.h"
#include "support/places.h"
#include "support/temp_dir.h"

namespace apo::models {
namespace {

namespace fs = std::filesystem;
using apo::testing::distance;
using apo::testing::message_of;
using apo::testing::TempDir;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Pi0FastGolden;

// A checkpoint that a test may spoil.
class Spoiled {
 public:
  explicit Spoiled(const std::string& variant) : golden(variant) {
    fs::copy(golden.directory / "checkpoint", path(), fs::copy_options::recursive);
  }
  fs::path path() const { return directory_.path() / "checkpoint"; }
  void edit(const std::string& name, const std::function<void(json&)>& change) const {
    json contents = json::parse(read_file(path() / name));
    change(contents);
    write_file_atomic(path() / name, contents.dump());
  }
  void rewrite(const std::function<NamedTensors(const NamedTensors&)>& change) const {
    NamedTensors tensors;
    {
      const SafetensorsReader weights(path());
      for (const std::string& name : weights.names())
        tensors.emplace_back(name, weights.tensor(name).clone());
    }
    write_safetensors(path() / "model.safetensors", change(tensors));
  }
  std::unique_ptr<Policy> load() const {
    PolicyOptions options = golden.options();
    options.checkpoint = path().string();
    return make_policy(options, nullptr, 0, at::kCPU);
  }
  at::Tensor scores(Policy& policy) const {
    const PolicyInput input = policy.encode(golden.observations());
    const ActionTokens tokens = policy.tokenize(golden.actions(), &input);
    return policy.score(input, tokens).logits.whole().detach();
  }
  template <class Kind = DataError>
  std::string refusal() const {
    return message_of<Kind>([&] { load()->encode(golden.observations()); });
  }

  Pi0FastGolden golden;

 private:
  TempDir directory_;
};

struct Layout {
  const char *vision, *projector, *language, *head;
};

TEST(Pi0FastNames, EveryLayoutScoresTheSame) {
  const Spoiled openpi("openpi");
  const at::Tensor expected = openpi.scores(*openpi.load());
  const std::string ours = "paligemma.";
  for (const Layout& layout :
       {Layout{"vision_tower.vision_model.", "multi_modal_projector.", "language_model.model.",
               "language_model.lm_head."},
        Layout{"model.vision_tower.vision_model.", "model.multi_modal_projector.",
               "model.language_model.model.", "lm_head."},
        Layout{"vision_tower.", "multi_modal_projector.", "language_model.model.", "lm_head."},
        Layout{"model.vision_tower.", "model.multi_modal_projector.", "model.language_model.", "lm_head."},
        Layout{"model.paligemma_with_expert.paligemma.model.vision_tower.vision_model.",
               "model.paligemma_with_expert.paligemma.model.multi_modal_projector.",
               "model.paligemma_with_expert.paligemma.model.language_model.",
               "model.paligemma_with_expert.paligemma.lm_head."},
        Layout{"paligemma.vision_tower.vision_model.", "paligemma.multi_modal_projector.",
               "paligemma.language_model.model.", "paligemma.language_model.lm_head."}}) {
    for (const bool as_words : {false, true}) {  // the one table, under either name
      const Spoiled other("openpi");
      other.rewrite([&](const NamedTensors& tensors) {
        NamedTensors renamed;
        for (const auto& [name, tensor] : tensors) {
          std::string to = name;
          for (const auto& [from, front] :
               {std::pair(ours + "model.vision_tower.vision_model.", layout.vision),
                std::pair(ours + "model.multi_modal_projector.", layout.projector),
                std::pair(ours + "model.language_model.", layout.language),
                std::pair(ours + "lm_head.", layout.head)})
            if (name.starts_with(from)) to = front + name.substr(from.size());
          if (as_words && name == ours + "lm_head.weight")
            to = std::string(layout.language) + "embed_tokens.weight";
          renamed.emplace_back(to, tensor);
        }
        renamed.emplace_back("paligemma_with_expert.gemma_expert.model.norm.weight",
                             at::ones({3}));  // unused
        return renamed;
      });
      const auto policy = other.load();
      EXPECT_TRUE(other.scores(*policy).equal(expected)) << layout.vision << as_words;
      // and the names that training and PEFT see are the file's
      const auto parameters = policy->named_parameters();
      EXPECT_TRUE(std::ranges::any_of(parameters, [&](const auto& p) {
        return p.first == std::string(layout.language) + "layers.0.self_attn.q_proj.weight";
      }));
    }
  }
}

TEST(Pi0FastNames, TwoEqualTablesAreOneAndTwoDifferentOnesStayTwo) {
  for (const bool equal : {true, false}) {
    const Spoiled lerobot("lerobot");
    const std::string front = "model.paligemma_with_expert.paligemma.";
    lerobot.rewrite([&](NamedTensors tensors) {
      at::Tensor words, *head = nullptr;
      for (auto& [name, tensor] : tensors) {
        if (name.ends_with("embed_tokens.weight")) words = tensor;
        if (name.ends_with("lm_head.weight")) head = &tensor;
      }
      if (equal) *head = words.clone();
      return tensors;
    });
    const auto policy = lerobot.load();
    int64_t tables = 0;
    for (const auto& [name, tensor] : policy->named_parameters())
      tables += tensor.size(0) == policy->vocabulary_size();
    EXPECT_EQ(tables, equal ? 1 : 2);
    const TempDir saved;  // both names are written again
    policy->save(saved.path());
    const SafetensorsReader again(saved.path());
    EXPECT_TRUE(again.has(front + "lm_head.weight"));
    EXPECT_TRUE(again.has(front + "model.language_model.embed_tokens.weight"));
  }
}

TEST(Pi0FastTied, TrainsWordsAndHeadAsOne) {
  const Spoiled openpi("openpi");
  const auto policy = openpi.load();
  const PolicyInput input = policy->encode(openpi.golden.observations());
  const ActionTokens tokens = policy->tokenize(openpi.golden.actions(), &input);
  policy->score(input, tokens).logits.whole().square().mean().backward();
  for (const auto& [name, tensor] : policy->named_parameters()) {
    if (!name.ends_with("lm_head.weight")) continue;
    // a word of the prompt that no answer holds gets gradient through the words alone, and all rows through
    // the head
    EXPECT_TRUE(tensor.grad().abs().sum(1).gt(0).all().item<bool>());
    const at::NoGradGuard no_grad;
    at::Tensor(tensor).mul_(2);
  }
  EXPECT_GT(distance(openpi.scores(*policy), openpi.scores(*openpi.load())), 0.1);
}

TEST(Pi0FastStatistics, OfTheOptionsStayWithAnAdapter) {
  const Spoiled openpi("openpi");
  const TempDir place;
  json stats = json::parse(read_file(openpi.path() / "assets/made_up/norm_stats.json"));
  for (auto& number : stats["norm_stats"]["actions"]["mean"]) number = number.get<double>() + 0.25;
  write_file_atomic(place.path() / "norm_stats.json", stats.dump());
  PolicyOptions options = openpi.golden.options();
  options.checkpoint = openpi.path().string();
  options.statistics = (place.path() / "norm_stats.json").string();
  options.lora.rank = 2;
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  fs::create_directories(place.path() / "saved");
  policy->save(place.path() / "saved");
  PolicyOptions later = openpi.golden.options();
  later.checkpoint = (place.path() / "saved").string();
  const auto again = make_policy(later, nullptr, 0, at::kCPU);
  EXPECT_EQ(again->normalizer().statistics().mean, policy->normalizer().statistics().mean);
  EXPECT_NE(again->normalizer().statistics().mean, openpi.load()->normalizer().statistics().mean);
  EXPECT_TRUE(openpi.scores(*again).equal(openpi.scores(*policy)));
}

tokenizers::VectorStatistics spread(size_t size, double low, double high) {
  const auto all = [size](double number) { return std::vector<double>(size, number); };
  return {.mean = all((low + high) / 2),
          .std = all((high - low) / 4),
          .min = all(low - 0.1),
          .max = all(high + 0.1),
          .q01 = all(low),
          .q99 = all(high),
          .mask = std::vector<bool>(size, true)};
}

// Those of `apo-data stats`, by the checkpoint's own mode, in float32; its processors' files then hold them.
TEST(Pi0FastStatistics, OurOwnServeALerobotCheckpointAndStayWithIt) {
  const Spoiled lerobot("lerobot");
  const TempDir place;
  tokenizers::DatasetStatistics own;
  own.action = spread(lerobot.load()->normalizer().statistics().mean.size(), -0.3, 0.7);
  own.state = {{"eef_pos", spread(3, -2, 1)}, {"joints", spread(4, -1, 3)}};
  write_file_atomic(place.path() / "stats.json", tokenizers::to_json(own, "robot"));
  PolicyOptions options = lerobot.golden.options();
  options.checkpoint = lerobot.path().string();
  options.statistics = (place.path() / "stats.json").string();
  const auto policy = make_policy(options, nullptr, 0, at::kCPU);
  for (const double number : policy->normalizer().statistics().q01) EXPECT_EQ(number, -0.3f);
  EXPECT_GT(distance(lerobot.scores(*policy), lerobot.scores(*lerobot.load())), 1e-3);

  fs::create_directories(place.path() / "saved");
  policy->save(place.path() / "saved");
  PolicyOptions later = lerobot.golden.options();
  later.checkpoint = (place.path() / "saved").string();
  const auto again = make_policy(later, nullptr, 0, at::kCPU);
  EXPECT_EQ(again->normalizer().statistics().q99, policy->normalizer().statistics().q99);
  EXPECT_TRUE(lerobot.scores(*again).equal(lerobot.scores(*policy)));
  const SafetensorsReader file(place.path() /
                               "saved/policy_preprocessor_step_2_normalizer_processor.safetensors");
  EXPECT_TRUE(file.tensor("observation.state.q99").equal(torch::tensor({1.f, 1.f, 1.f, 3.f, 3.f, 3.f, 3.f})));

  lerobot.edit("policy_preprocessor.json",
               [](json& j) { j["steps"][2]["config"]["norm_map"]["ACTION"] = "QUANTILE10"; });
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              AllOf(HasSubstr("stats.json: action.q10: missing"), HasSubstr("QUANTILE10")));
  options.state_keys = {"eef_pos"};
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("QUANTILE10"));
}

// The file that is wrong is named, not the checkpoint.
TEST(Pi0FastStatistics, OfAnotherRobotOrProgramAreRefusedByTheirFile) {
  for (const char* dialect : {"openpi", "lerobot"}) {
    const Pi0FastGolden golden(dialect);
    const TempDir place;
    const auto message = [&](const std::string& text) {
      write_file_atomic(place.path() / "stats.json", text);
      PolicyOptions options = golden.options();
      options.statistics = (place.path() / "stats.json").string();
      return message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); });
    };
    tokenizers::DatasetStatistics other;
    other.action = spread(2, -0.3, 0.7);
    other.state = {{"eef_pos", spread(3, -2, 1)}, {"joints", spread(4, -1, 3)}};
    EXPECT_THAT(message(tokenizers::to_json(other, "robot")),
                AllOf(HasSubstr(concat("/stats.json: the statistics of actions are of 2 numbers; expected ",
                                       std::string_view(dialect) == "openpi" ? 5 : 4)),
                      HasSubstr("another robot?")));
    EXPECT_THAT(message(R"({"action": {"mean": [0], "std": [1]}, "observation.state": {"mean": [0]}})"),
                AllOf(HasSubstr("/stats.json: found LeRobot's statistics"), HasSubstr("apo-data stats")));
  }
  const Pi0FastGolden lerobot("lerobot");
  PolicyOptions options = lerobot.options();
  options.statistics =
      (Pi0FastGolden("openpi").directory / "checkpoint/assets/made_up/norm_stats.json").string();
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              HasSubstr("norm_stats.json: found openpi's statistics"));
}

// Either form of the text tokenizer, and what is saved has the one that there was.
TEST(Pi0FastCheckpoint, ATokenizerJsonServesAsItsModelDoes) {
  const fs::path merged = apo::testing::in_source("tests/tokenizers/goldens/merged");
  std::vector<at::Tensor> scores;
  for (const char* form : {"tokenizer.model", "tokenizer.json"}) {
    const Spoiled openpi("openpi");
    fs::remove(openpi.path() / "tokenizer.model");
    EXPECT_THAT(openpi.refusal(), AllOf(HasSubstr("tokenizer.model: missing"), HasSubstr("tokenizer.json")));
    fs::copy(merged / form, openpi.path() / form);
    const auto policy = openpi.load();
    scores.push_back(openpi.scores(*policy));
    const TempDir place;
    policy->save(place.path());
    EXPECT_EQ(read_file(place.path() / form), read_file(merged / form));
  }
  EXPECT_TRUE(scores[0].equal(scores[1]));
}

TEST(Pi0FastExport, MergesAndBringsAllThatLiesBeside) {
  for (const char* variant : {"openpi", "lerobot"}) {
    const Pi0FastGolden golden(variant);
    const TempDir directory;
    const fs::path merged = directory.path() / "merged";
    export_checkpoint(golden.directory / "checkpoint", golden.directory / "adapter", merged,
                      {.dtype = "float32"});
    PolicyOptions options = golden.options();
    options.checkpoint = merged.string();
    const auto policy = make_policy(options, nullptr, 0, at::kCPU);
    const PolicyInput input = policy->encode(golden.observations());
    const ActionTokens tokens = policy->tokenize(golden.actions(), &input);
    const at::Tensor found = policy->score(input, tokens)
                                 .logits.whole()
                                 .log_softmax(-1)
                                 .gather(-1, tokens.ids.unsqueeze(-1))
                                 .squeeze(-1) *
                             tokens.mask;
    EXPECT_LT(distance(found.detach(), golden.results.tensor("adapted_token_log_probs")), 5e-4) << variant;
  }
}

TEST(Pi0FastRefuses, WhatIsNoneOrDoesNotFit) {
  {
    const Spoiled flow("openpi");
    flow.rewrite([](NamedTensors tensors) {
      tensors.emplace_back("action_out_proj.weight", at::ones({2, 2}));
      return tensors;
    });
    EXPECT_THAT(flow.refusal(), AllOf(HasSubstr("action_out_proj.weight"), HasSubstr("flow model")));
  }
  {
    const Spoiled pi0("lerobot");
    pi0.edit("config.json", [](json& config) { config["type"] = "pi0"; });
    EXPECT_THAT(pi0.refusal(), AllOf(HasSubstr("config.json: type"), HasSubstr("flow model")));
  }
  {
    const Spoiled none("openpi");
    fs::remove(none.path() / "tokenizer.model");
    EXPECT_THAT(none.refusal(), HasSubstr("tokenizer.model"));
  }
  for (const char* part : {"processor_config.json", "tokenizer.json"}) {
    const Spoiled none("lerobot");
    fs::remove(none.path() / "action_tokenizer" / part);
    EXPECT_THAT(none.refusal(), AllOf(HasSubstr(std::string("action_tokenizer/") + part + ": missing"),
                                      HasSubstr("physical-intelligence/fast")));
  }
  {
    const Spoiled other("openpi");
    other.edit("action_tokenizer/processor_config.json", [](json& config) { config["time_horizon"] = 50; });
    EXPECT_THAT(other.refusal(),
                AllOf(HasSubstr("action_tokenizer"), HasSubstr("made for chunks of 50 actions, expected 6")));
  }
  {
    const Spoiled other("openpi");
    other.edit("action_tokenizer/processor_config.json", [](json& config) { config["action_dim"] = 14; });
    EXPECT_THAT(other.refusal(), HasSubstr("made for actions of 14 numbers, expected 5"));
  }
  {
    const Spoiled mode("openpi");
    mode.edit("config.json", [](json& config) { config.erase("normalization"); });
    EXPECT_THAT(mode.refusal(), HasSubstr("config.json: normalization"));
  }
  {
    const Spoiled robot("openpi");
    robot.edit("assets/made_up/norm_stats.json", [](json& stats) {
      for (auto& [key, list] : stats["norm_stats"]["actions"].items()) list = {0.5, 0.5};
    });
    EXPECT_THAT(robot.refusal(), HasSubstr("the statistics of actions are of 2 numbers; expected 5"));
  }
  {
    const Spoiled quantiles("openpi");
    quantiles.edit("config.json", [](json& config) { config["normalization"] = "quantile"; });
    quantiles.edit("assets/made_up/norm_stats.json",
                   [](json& stats) { stats["norm_stats"]["actions"]["q01"] = nullptr; });
    EXPECT_THAT(quantiles.refusal(), HasSubstr("normalises by quantiles"));
  }
  {
    const Spoiled relative("lerobot");
    relative.edit("config.json", [](json& config) { config["use_relative_actions"] = true; });
    EXPECT_THAT(relative.refusal(), HasSubstr("use_relative_actions"));
  }
  {
    const Spoiled relative("lerobot");
    relative.edit("policy_preprocessor.json", [](json& pipeline) {
      pipeline["steps"].push_back(
          {{"registry_name", "relative_actions_processor"}, {"config", {{"enabled", true}}}});
    });
    EXPECT_THAT(relative.refusal(), HasSubstr("relative to the state"));
  }
  {
    const Spoiled mode("lerobot");
    mode.edit("policy_preprocessor.json", [](json& pipeline) {
      for (auto& step : pipeline["steps"])
        if (step["registry_name"] == "normalizer_processor") step["config"]["norm_map"]["ACTION"] = "SOMEHOW";
    });
    EXPECT_THAT(mode.refusal(),
                HasSubstr("expected MEAN_STD, QUANTILES, QUANTILE10, MIN_MAX, IDENTITY, found"));
  }
  {
    const Spoiled size("lerobot");
    size.edit("config.json",
              [](json& config) { config["input_features"]["observation.state"]["shape"] = {14}; });
    EXPECT_THAT(size.refusal(), HasSubstr("the statistics of states are of 7 numbers; expected 14"));
  }
}

TEST(Pi0FastRefuses, ObservationsAndOptionsThatDoNotFit) {
  const Pi0FastGolden golden("lerobot");
  const auto message = [&](const std::function<void(PolicyOptions&)>& change) {
    PolicyOptions options = golden.options();
    change(options);
    return message_of<Error>(
        [&] { make_policy(options, nullptr, 0, at::kCPU)->encode(golden.observations()); });
  };
  EXPECT_THAT(message([](PolicyOptions& o) { o.state_keys = {"eef_pos"}; }),
              HasSubstr("expected 7 numbers, as the policy's statistics have, found 3"));
  EXPECT_THAT(message([](PolicyOptions& o) { o.state_keys = {"gripper"}; }),
              HasSubstr("needs the state \"gripper\"; there are: eef_pos, joints"));
  EXPECT_THAT(message([](PolicyOptions& o) { o.state_keys.clear(); }), HasSubstr("policy.state_keys"));
  EXPECT_THAT(message([](PolicyOptions& o) { o.cameras.pop_back(); }),
              HasSubstr("policy.cameras: expected 3 names"));
  EXPECT_THAT(message([](PolicyOptions& o) { o.cameras.clear(); }),
              HasSubstr("Name the camera of each with policy.cameras"));
  EXPECT_THAT(message_of<ConfigError>([&] {
                PolicyOptions options = golden.options();
                options.cameras = {"", "", ""};
                make_policy(options, nullptr, 0, at::kCPU);
              }),
              HasSubstr("policy.cameras: expected at least one camera"));
  EXPECT_THAT(message([](PolicyOptions& o) {
                o.cameras = {"front", "", ""};
              }),
              HasSubstr("needs the camera \"front\""));
  const std::string tensors_of_another =
      message([](PolicyOptions& o) { o.adapter = (Pi0FastGolden("openpi").directory / "adapter").string(); });
  EXPECT_THAT(tensors_of_another, HasSubstr("paligemma.model.language_model.layers.0"));
}

TEST(Pi0FastRefuses, OrbaxDirectories) {
  const TempDir directory;
  fs::create_directories(directory.path() / "params");
  write_file_atomic(directory.path() / "params" / "_METADATA", "{}");
  PolicyOptions options;
  options.checkpoint = directory.path().string();
  EXPECT_THAT(message_of<DataError>([&] { make_policy(options, nullptr, 0, at::kCPU); }),
              AllOf(HasSubstr("orbax"), HasSubstr("convert_openpi.py")));
}

TEST(Pi0FastPrompt, BinsAreThoseOfDigitize) {
  const double below = std::nextafter(-1.0, -2.0), last = 0.9921875;
  EXPECT_THAT(state_bins({below, -1, -0.9921876, -0.9921875, 0, std::nextafter(0.0, -1.0), last,
                          std::nextafter(last, 0.0), 1, 7, -9}),
              ElementsAre(-1, 0, 0, 1, 128, 127, 255, 254, 255, 255, -1));
}

TEST(Pi0FastPrompt, TasksAreCleanedAsEachDialectDoes) {
  EXPECT_EQ(task_text("  Put_the Caf\u00c9\n on_it\t", Pi0FastDialect::openpi), "put the caf\u00e9\n on it");
  EXPECT_EQ(task_text("  Put_the Caf\u00c9\n on_it\t", Pi0FastDialect::lerobot), "Put the Caf\u00c9  on it");
  EXPECT_EQ(prompt_text("lift", {0, -1, 255}), "Task: lift, State: 0 -1 255;\n");
}

TEST(Pi0FastPictures, KeepTheirShapeBetweenBlackBorders) {
  const at::Tensor wide = at::full({2, 4, 3}, 200, at::kByte);
  const at::Tensor bytes = resize_with_border(wide, 8);
  EXPECT_EQ(bytes.sizes(), (at::IntArrayRef{8, 8, 3}));
  EXPECT_TRUE(bytes.slice(0, 2, 6).eq(200).all().item<bool>());
  EXPECT_TRUE(bytes.slice(0, 0, 2).eq(0).all().item<bool>() && bytes.slice(0, 6, 8).eq(0).all().item<bool>());
  const at::Tensor numbers = resize_with_border_float(wide, 8);
  EXPECT_EQ(numbers.sizes(), (at::IntArrayRef{3, 8, 8}));
  EXPECT_LT(distance(numbers.slice(1, 2, 6), at::full({3, 4, 8}, 200 / 255.0)), 1e-6);
  EXPECT_TRUE(numbers.slice(1, 0, 2).eq(0).all().item<bool>());
}

}  // namespace
}  // namespace apo::models
