// How a policy is made or loaded: the config section `policy`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apo/config/any_options.h"
#include "apo/config/gripper.h"
#include "apo/models/lora.h"
#include "apo/tokenizers/statistics.h"

namespace apo::models {

/// `policy.small`: a fresh policy of the built-in kind. A loaded one keeps its own.
struct SmallOptions {
  int64_t image_size = 64;  ///< square input, pixels
  int64_t width = 64;       ///< of the transformer
  int64_t layers = 3;
  int64_t heads = 4;
  int64_t channels = 16;  ///< of the first convolution
  int64_t action_bins = 256;
  int64_t horizon = 0;  ///< H, steps decided at once; 0: 1, or as the checkpoint says
  void visit(config::Visitor& v);
};

/// `policy.openvla`: how a checkpoint of the OpenVLA family runs.
struct OpenVlaOptions {
  std::string dtype = "auto";         ///< of its weights: auto (as stored) | float32 | bfloat16 | float16
  std::string quantization = "none";  ///< of frozen linear layers: none | float8 | int8 | nf4
  bool center_crop = false;           ///< evaluate on the centre 90 % of the picture's area
  bool action_tokens_only = true;     ///< decode only among the action tokens, not the whole vocabulary
  bool speculative = false;  ///< decode by looking at the last decision's tokens in one pass, where greedy
  bool activation_checkpointing = false;  ///< recompute activations block by block in the backward pass
  /// H of OpenVLA-OFT, which decides so many steps in one pass; 0: as the checkpoint says, else plain OpenVLA
  int64_t chunk_steps = 0;
  std::string stop_token = "auto";   ///< OFT: an end token behind the action places, auto | true | false
  std::string score_among = "auto";  ///< OFT: softmax of scores, auto | actions | vocabulary
  std::string resize = "auto";       ///< OFT: of pictures before any crop, auto | bicubic | lanczos
  void visit(config::Visitor& v);
};

/// `policy.pi0_fast`: how a pi0-FAST checkpoint runs.
struct Pi0FastOptions {
  std::string dtype = "auto";         ///< of its weights: auto (as stored) | float32 | bfloat16 | float16
  std::string quantization = "none";  ///< of frozen linear layers: none | float8 | int8 | nf4
  std::string decode_as = "trained";  ///< trained | released: with the dialect's own difference to training
  bool action_tokens_only = false;    ///< decode only what an answer may hold: prefix, codes, bar, end
  bool decode_valid = false;          ///< and only codes that make a whole chunk
  int64_t pad_state_to = 0;  ///< numbers of the state in the prompt, filled up with 0; 0: as they are
  bool activation_checkpointing = false;  ///< recompute activations block by block in the backward pass
  void visit(config::Visitor& v);
};

/// Config section `policy`.
struct PolicyOptions {
  /// directory of weights; empty: a fresh policy of `type`, made for the data
  std::string checkpoint;
  std::string adapter;         ///< PEFT adapter directory to start from; empty: none
  std::string type = "small";  ///< which registered policy a fresh one is
  LoraOptions lora;            ///< rank > 0: train an adapter, the base stays frozen; a loaded one, too
  std::string unnorm_key;      ///< which entry of the action statistics; empty: the only one
  tokenizers::ActionNormalization action_normalization = tokenizers::ActionNormalization::automatic;
  config::GripperOptions gripper;  ///< in the policy's actions; what is left open is as the checkpoint says
  /// cameras of a fresh policy; empty: all of the first episode, sorted. Of a loaded one that does not say
  /// itself: those that it sees, in their order
  std::vector<std::string> cameras;
  /// proprioception of a fresh policy, or of a loaded one that does not say itself, in its order; empty: none
  std::vector<std::string> state_keys;
  int64_t execute_steps = 0;  ///< actions of a decision executed before the next; 0: all
  /// action statistics (JSON) in place of the checkpoint's; empty: the checkpoint's
  std::string statistics;
  config::OptionsOfKinds own = {};  ///< `policy.NAME` of the kinds that have options

  /// The options of a kind, to read and to change: `options.of<models::SmallOptions>().width = 16`. Defaults
  /// where none are held.
  template <config::Visitable T>
  T& of() {
    return own.of<T>();
  }
  template <config::Visitable T>
  T of() const {
    return own.of<T>();
  }
  void visit(config::Visitor& v);
};

/// The same with the weights as they are stored: what quantization costs is measured against them.
PolicyOptions without_quantization(PolicyOptions options);
/// Does a section ask for it?
bool is_quantized(const PolicyOptions& options);

/// A config that a program of an earlier release wrote, with the options of the kinds in their own sections.
std::string with_kinds_apart(std::string_view printed_config);

}  // namespace apo::models
