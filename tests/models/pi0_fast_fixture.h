// The tiny pi0-FASTs of goldens/pi0_fast (written by scripts/goldens/make_pi0_fast.py with transformers).
#pragma once

#include <gmock/gmock.h>
#include <torch/types.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apo/base/files.h"
#include "apo/models/linear.h"
#include "apo/models/registry.h"
#include "apo/models/safetensors.h"
#include "support/near.h"
#include "support/places.h"

namespace apo::models::testing {

struct Pi0FastGolden {
  explicit Pi0FastGolden(const std::string& variant)
      : directory(std::filesystem::path(apo::testing::in_source("tests/models/goldens/pi0_fast")) / variant),
        json(nlohmann::json::parse(read_file(directory / "golden.json"))),
        results(directory / "golden.safetensors") {}

  PolicyOptions options(Pi0FastOptions own = {}) const {
    PolicyOptions options;
    options.checkpoint = (directory / "checkpoint").string();
    own.dtype = "float32";
    options.of<Pi0FastOptions>() = std::move(own);
    options.state_keys = {"eef_pos", "joints"};
    for (const auto& slot : json["slots"]) {
      const auto name = slot.get<std::string>();
      options.cameras.push_back(name.starts_with("absent") ? "" : name.substr(0, name.size() - 4));  // _rgb
    }
    return options;
  }

  std::unique_ptr<Policy> policy(const Pi0FastOptions& own = {}, bool adapted = false) const {
    PolicyOptions wanted = options(own);
    if (adapted) wanted.adapter = (directory / "adapter").string();
    return make_policy(wanted, nullptr, 0, at::kCPU);
  }

  std::vector<Observation> observations() const {
    std::vector<Observation> all;
    const at::Tensor states = results.tensor("state");
    for (int64_t i = 0; i < states.size(0); ++i) {
      Observation& observation = all.emplace_back();
      for (const char* camera : {"agentview", "wrist"})
        observation.images[camera] = results.tensor(std::string("picture_") + camera)[i].clone();
      const at::Tensor state = states[i].contiguous();
      const float* numbers = state.const_data_ptr<float>();
      observation.state["eef_pos"] = {numbers, numbers + 3};
      observation.state["joints"] = {numbers + 3, numbers + state.numel()};
      observation.instruction = json["tasks"][static_cast<size_t>(i)];
    }
    return all;
  }

  std::vector<ActionChunk> actions() const {
    std::vector<ActionChunk> all;
    const at::Tensor numbers = results.tensor("actions");
    for (int64_t i = 0; i < numbers.size(0); ++i) {
      ActionChunk& chunk = all.emplace_back();
      for (int64_t h = 0; h < numbers.size(1); ++h) {
        const at::Tensor row = numbers[i][h].contiguous();
        chunk.emplace_back(row.const_data_ptr<float>(), row.const_data_ptr<float>() + row.numel());
      }
    }
    return all;
  }

  std::filesystem::path directory;
  nlohmann::json json;
  SafetensorsReader results;
};

inline std::vector<int64_t> row_of(const at::Tensor& ids, int64_t row) {
  const at::Tensor here = ids[row].contiguous();
  return {here.const_data_ptr<int64_t>(), here.const_data_ptr<int64_t>() + here.numel()};
}

}  // namespace apo::models::testing
