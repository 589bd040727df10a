// The tiny OpenVLA-OFTs of goldens/openvla_oft (written by scripts/goldens/make_openvla_oft.py).
#pragma once

#include <gmock/gmock.h>
#include <torch/types.h>

#include <filesystem>
#include <fstream>
#include <functional>
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
#include "support/temp_dir.h"

namespace apo::models::testing {

/// A checkpoint directory made of the plain OpenVLA of the same name, whose attention is sharpened as in
/// Python.
struct OftGolden {
  explicit OftGolden(const std::string& variant)
      : plain(goldens() / "openvla" / variant),
        directory(goldens() / "openvla_oft" / variant),
        json(nlohmann::json::parse(read_file(directory / "golden.json"))),
        base(directory / "golden.safetensors") {
    namespace fs = std::filesystem;
    for (const fs::path& from : {plain / "checkpoint", directory})
      for (const auto& entry : fs::directory_iterator(from))
        if (entry.path().filename().string().find(".safetensors") == std::string::npos &&
            entry.path().filename() != "golden.json")
          write_file_atomic(checkpoint() / entry.path().filename(), read_file(entry.path()));
    write_weights({});
  }

  std::filesystem::path checkpoint() const { return temp.path(); }

  /// The weights with some more tensors.
  void write_weights(const NamedTensors& more) const {
    const SafetensorsReader weights(plain / "checkpoint");
    NamedTensors tensors;
    for (const std::string& name : weights.names()) {
      const bool sharp = name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
      tensors.emplace_back(name, sharp ? weights.tensor(name) * 2 : weights.tensor(name));
    }
    tensors.insert(tensors.end(), more.begin(), more.end());
    write_safetensors(checkpoint() / "model.safetensors", tensors);
  }

  /// As the user says it of a published checkpoint.
  PolicyOptions options() const {
    const nlohmann::json& s = json["settings"];
    PolicyOptions options{.checkpoint = checkpoint().string()};
    options.cameras = s["cameras"].get<std::vector<std::string>>();
    options.state_keys = s["state_keys"].get<std::vector<std::string>>();
    options.action_normalization = s["action_normalization"] == "bounds"
                                       ? tokenizers::ActionNormalization::bounds
                                       : tokenizers::ActionNormalization::quantiles;
    auto& own = options.of<OpenVlaOptions>();
    own.dtype = "float32";
    own.chunk_steps = s["chunk_steps"];
    own.stop_token = s["stop_token"].get<bool>() ? "true" : "false";
    own.score_among = s["score_among"];
    own.resize = s["resize"];
    return options;
  }
  std::unique_ptr<Policy> policy(const std::string& adapter = "") const { return policy(options(), adapter); }
  std::unique_ptr<Policy> policy(PolicyOptions options, const std::string& adapter = "") const {
    if (!adapter.empty()) options.adapter = (plain / adapter).string();
    return make_policy(options, nullptr, 0, at::kCPU);
  }

  std::vector<Observation> observations() const {
    std::vector<Observation> all(json["tasks"].size());
    const auto sizes = json["state_sizes"].get<std::vector<int64_t>>();
    for (size_t i = 0; i < all.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      all[i].instruction = json["tasks"][i];
      for (const auto& camera : json["settings"]["cameras"])
        all[i].images[camera] = base.tensor(camera)[row].clone();
      int64_t at = 0;
      for (size_t k = 0; k < sizes.size(); ++k, at += sizes[k - 1]) {
        const at::Tensor part = base.tensor("state")[row].narrow(0, at, sizes[k]).contiguous();
        all[i].state[json["settings"]["state_keys"][k]] = {part.const_data_ptr<float>(),
                                                           part.const_data_ptr<float>() + sizes[k]};
      }
    }
    return all;
  }

  /// Cut as the golden's `steps` say.
  std::vector<ActionChunk> chunks() const {
    const at::Tensor actions = base.tensor("actions").contiguous();
    std::vector<ActionChunk> all;
    for (int64_t i = 0; i < actions.size(0); ++i) {
      all.emplace_back();
      for (int64_t h = 0; h < json["steps"][static_cast<size_t>(i)]; ++h) {
        const at::Tensor one = actions[i][h];
        all.back().emplace_back(one.const_data_ptr<float>(), one.const_data_ptr<float>() + one.numel());
      }
    }
    return all;
  }

  void edit(const std::string& file, const std::function<void(nlohmann::json&)>& change) const {
    auto text = nlohmann::json::parse(read_file(checkpoint() / file));
    change(text);
    write_file_atomic(checkpoint() / file, text.dump());
  }

  static std::filesystem::path goldens() { return apo::testing::in_source("tests/models/goldens"); }

  apo::testing::TempDir temp;
  std::filesystem::path plain, directory;
  nlohmann::json json;
  SafetensorsReader base;
};

}  // namespace apo::models::testing
