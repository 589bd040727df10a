#include "apo/models/options.h"

#include <array>
#include <string_view>

#include "apo/config/older_keys.h"

namespace apo::models {
namespace {

constexpr std::array<std::string_view, 4> kDtypes{"auto", "float32", "bfloat16", "float16"};
constexpr std::array<std::string_view, 4> kQuantizations{"none", "float8", "int8", "nf4"};
constexpr const char* kQuantizationHelp =
    "of the linear layers but the head, under an adapter (policy.lora): float8 and int8 by row, nf4 in "
    "blocks of 64; "
    "decoded next to each product, so that the weights take a half or a quarter of bfloat16's memory";
constexpr std::array<std::string_view, 2> kDecodings{"trained", "released"};
constexpr std::array<std::string_view, 3> kSwitch{"auto", "true", "false"};
constexpr std::array<std::string_view, 3> kAmong{"auto", "actions", "vocabulary"};
constexpr std::array<std::string_view, 3> kResize{"auto", "bicubic", "lanczos"};
constexpr double kLongestChunk = 1024;

}  // namespace

void SmallOptions::visit(config::Visitor& v) {
  v("image_size", image_size, "square pictures, pixels, a multiple of 16", config::between(16, 4096));
  v("width", width, "of the transformer; larger learns more and slower", config::between(2, 65536));
  v("layers", layers, "of the transformer", config::between(1, 1024));
  v("heads", heads, "attention heads; must divide width", config::at_least(1));
  v("channels", channels, "of the first convolution", config::between(1, 4096));
  v("action_bins", action_bins, "bins that an action dimension is cut into", config::between(2, 1 << 20));
  v("horizon", horizon,
    "steps that are decided at once, as a chunk of actions; 0: 1, or as many as a loaded policy decides",
    config::between(0, kLongestChunk));
}

void OpenVlaOptions::visit(config::Visitor& v) {
  v.choice("dtype", dtype, kDtypes, "of the frozen weights; auto: as stored");
  v.choice("quantization", quantization, kQuantizations, kQuantizationHelp);
  v("center_crop", center_crop,
    "evaluate on the centre 90 % of the picture, for a policy that trained on random crops of that area");
  v("action_tokens_only", action_tokens_only,
    "decode only among the action tokens; false: among the whole vocabulary, as the released program");
  v("speculative", speculative,
    "greedy decoding looks at the last decision's tokens in one pass and decides anew from the first that "
    "has changed: "
    "the same tokens up to rounding, in fewer passes");
  v("activation_checkpointing", activation_checkpointing,
    "recompute each block's activations in the backward pass: less memory, a third more time");
  v("chunk_steps", chunk_steps,
    "steps that an OpenVLA-OFT with discrete tokens decides in one pass (LIBERO 8, RoboTwin 25), which no "
    "published checkpoint says; 0: as a checkpoint of ours says, else a plain OpenVLA",
    config::between(0, kLongestChunk));
  v.choice("stop_token", stop_token, kSwitch,
           "OpenVLA-OFT: an end token stands behind the action places, as in training with OpenVLA-OFT's own "
           "program; false for models that were trained without; auto: as the checkpoint says, else true");
  v.choice("score_among", score_among, kAmong,
           "OpenVLA-OFT: log-probabilities among the action tokens or the whole vocabulary; auto: as the "
           "checkpoint says, else actions");
  v.choice("resize", resize, kResize,
           "OpenVLA-OFT: how pictures come to the network's size before any crop: bicubic as Pillow, lanczos "
           "as TensorFlow; auto: as the checkpoint says, else bicubic");
}

void Pi0FastOptions::visit(config::Visitor& v) {
  v.choice("dtype", dtype, kDtypes, "of the frozen weights; auto: as stored");
  v.choice("quantization", quantization, kQuantizations, kQuantizationHelp);
  v.choice("decode_as", decode_as, kDecodings,
           "trained: positions and masks of training; released: openpi's answers begin one position too far, "
           "LeRobot's prompt sees the token before the answer, as their programs decode");
  v("action_tokens_only", action_tokens_only,
    "decode only among what an answer may hold: its prefix, codes or the bar, the end; false: among the "
    "whole "
    "vocabulary, as the released programs");
  v("decode_valid", decode_valid,
    "decode only codes that make exactly one chunk, so that no answer is malformed (implies "
    "action_tokens_only)");
  v("pad_state_to", pad_state_to,
    "numbers of the state in the prompt, filled up with 0: 32 for checkpoints that LeRobot 0.4 trained; 0: "
    "as "
    "many as there are",
    config::between(0, 1024));
  v("activation_checkpointing", activation_checkpointing,
    "recompute each block's activations in the backward pass: less memory, a third more time");
}

PolicyOptions without_quantization(PolicyOptions options) {
  options.of<OpenVlaOptions>().quantization = "none";
  options.of<Pi0FastOptions>().quantization = "none";
  return options;
}

bool is_quantized(const PolicyOptions& options) {
  return options.of<OpenVlaOptions>().quantization != "none" ||
         options.of<Pi0FastOptions>().quantization != "none";
}

std::string with_kinds_apart(std::string_view printed_config) {
  static constexpr std::array<config::MovedKey, 10> kMoved{
      {{"policy", "image_size", "small"},
       {"policy", "width", "small"},
       {"policy", "layers", "small"},
       {"policy", "heads", "small"},
       {"policy", "channels", "small"},
       {"policy", "action_bins", "small"},
       {"policy", "dtype", "openvla"},
       {"policy", "center_crop", "openvla"},
       {"policy", "action_tokens_only", "openvla"},
       {"policy", "activation_checkpointing", "openvla"}}};
  return config::with_moved_keys(printed_config, kMoved);
}

}  // namespace apo::models
