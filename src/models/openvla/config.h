// What lies beside the weights of an OpenVLA checkpoint: sizes, preprocessing, action statistics.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "apo/pictures/transforms.h"
#include "apo/tokenizers/statistics.h"
#include "models/openvla/network.h"
#include "models/openvla/oft.h"

namespace apo::models {

class SafetensorsReader;
struct PolicyOptions;

/// Mean and standard deviation of a tower's pictures, one a channel.
struct PictureNormalization {
  std::array<double, 3> mean{}, std{};
};

/// A checkpoint directory without its weights and tokenizer.
struct OpenVlaConfig {
  OpenVlaShape shape;
  std::array<PictureNormalization, 2> normalization;  ///< DINOv2, SigLIP
  pictures::ResizeStrategy resize = pictures::ResizeStrategy::resize_naive;
  int64_t action_vocabulary = 32000;  ///< ids below which the action tokens end
  int64_t action_bins = 256;
  std::string dataset;  ///< the entry of the action statistics
  tokenizers::VectorStatistics action;
  config::GripperOptions gripper;  ///< in the actions; as known_gripper
  tokenizers::ActionNormalization action_normalization = tokenizers::ActionNormalization::quantiles;
  OftConfig oft;
  /// Small files of the checkpoint (config.json, tokenizer.model, ...) as they were, to be written back.
  std::map<std::string, std::string> companions;

  int64_t image_size() const { return shape.dino.image_size; }
  /// What letterboxing pads with: the last tower's mean color.
  std::array<uint8_t, 3> padding_color() const;

  /// Reads config.json, preprocessor_config.json and the action statistics (those of `options`, else of the
  /// adapter, else of the checkpoint); sizes come from the tensors in `weights`, heads from the family's rule
  /// (DINOv2 width / 64, SigLIP width / 72). DataError naming file and key or tensor.
  static OpenVlaConfig read(const std::filesystem::path& directory, const SafetensorsReader& weights,
                            const PolicyOptions& options, const std::filesystem::path& adapter);
};

/// The sizes of an OpenVLA in a checkpoint's tensors; norm_epsilon, rope_theta and heads of the Llama are the
/// caller's to fill in.
OpenVlaShape read_openvla_shape(const SafetensorsReader& weights);

}  // namespace apo::models
