// The tiny OpenVLAs of goldens/openvla (written by scripts/goldens/make_openvla.py with transformers, timm
// and peft).
#pragma once

#include <gmock/gmock.h>
#include <torch/types.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apo/base/files.h"
#include "apo/models/linear.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "models/small_world.h"
#include "support/places.h"

namespace apo::models::testing {

/// Options of an OpenVLA's own.
inline PolicyOptions with(OpenVlaOptions own, PolicyOptions options = {}) {
  options.of<OpenVlaOptions>() = std::move(own);
  return options;
}

struct OpenVlaGolden {
  explicit OpenVlaGolden(const std::string& variant)
      : directory(std::filesystem::path(apo::testing::in_source("tests/models/goldens/openvla")) / variant),
        json(nlohmann::json::parse(read_file(directory / "golden.json"))),
        base(directory / "golden.safetensors") {}

  std::unique_ptr<Policy> policy(const std::string& adapter = "", PolicyOptions options = {},
                                 at::Device device = at::kCPU) const {
    options.checkpoint = (directory / "checkpoint").string();
    auto& own = options.of<OpenVlaOptions>();
    if (own.dtype == "auto") own.dtype = "float32";
    options.unnorm_key = json["unnorm_key"];
    own.action_tokens_only = false;
    if (!adapter.empty()) {
      options.adapter = (directory / adapter).string();
      options.lora.rank = json["adapters"][adapter]["rank"];
    }
    return make_policy(options, nullptr, 0, device);
  }

  std::vector<Observation> observations() const {
    std::vector<Observation> all;
    const at::Tensor pictures = base.tensor("pictures");
    for (int64_t i = 0; i < pictures.size(0); ++i) {
      Observation observation;
      observation.images["agentview"] = pictures[i].clone();
      observation.instruction = json["tasks"][static_cast<size_t>(i)];
      all.push_back(std::move(observation));
    }
    return all;
  }

  // The recorded (normalised) actions in environment units.
  std::vector<Action> actions() const {
    const auto statistics = nlohmann::json::parse(read_file(directory / "checkpoint" / "config.json"));
    std::ifstream file(directory / "checkpoint" / "dataset_statistics.json");
    const nlohmann::json all = file ? nlohmann::json::parse(file) : statistics["norm_stats"];
    const nlohmann::json& of = all.at(json["unnorm_key"].get<std::string>()).at("action");
    const at::Tensor rows = base.tensor("actions").to(at::kDouble).contiguous();
    std::vector<Action> result;
    for (int64_t i = 0; i < rows.size(0); ++i) {
      Action action;
      for (int64_t j = 0; j < rows.size(1); ++j) {
        const double x = rows[i][j].item<double>(), low = of["q01"][j], high = of["q99"][j];
        const bool scaled = !of.contains("mask") || of["mask"][j].get<bool>();
        action.push_back(static_cast<float>(scaled ? low + (x + 1) / 2 * (high - low) : x));
      }
      result.push_back(std::move(action));
    }
    return result;
  }

  // The answers as Python fed them.
  ActionTokens tokens(const Policy& policy) const {
    ActionTokens answer = policy.tokenize(actions());
    answer.ids = base.tensor("answer_ids").clone();
    return answer;
  }

  // The pictures and prompts that Python fed, in the policy's own layout.
  PolicyInput input() const {
    const at::Tensor pixels = base.tensor("pixel_values");
    PolicyInput input;
    input.images = pixels.view({pixels.size(0), 2, 3, pixels.size(2), pixels.size(3)});
    const auto prompts = json["prompt_ids"].get<std::vector<std::vector<int64_t>>>();
    size_t longest = 0;
    for (const auto& prompt : prompts) longest = std::max(longest, prompt.size());
    input.prompt = at::zeros({std::ssize(prompts), static_cast<int64_t>(longest)}, at::kLong);
    input.prompt_mask = at::zeros(input.prompt.sizes(), at::kBool);
    for (int64_t i = 0; i < std::ssize(prompts); ++i) {
      const auto& prompt = prompts[static_cast<size_t>(i)];
      const int64_t padding = static_cast<int64_t>(longest - prompt.size());
      for (int64_t j = 0; j < std::ssize(prompt); ++j) {
        const int64_t column = j == 0 ? 0 : padding + j;
        input.prompt[i][column] = prompt[static_cast<size_t>(j)];
        input.prompt_mask[i][column] = true;
      }
    }
    return input;
  }

  // Results with an adapter, or of the base alone.
  SafetensorsReader results(const std::string& adapter) const {
    return SafetensorsReader(directory /
                             (adapter.empty() ? "golden.safetensors" : "golden_" + adapter + ".safetensors"));
  }

  std::filesystem::path directory;
  nlohmann::json json;
  SafetensorsReader base;
};

}  // namespace apo::models::testing
