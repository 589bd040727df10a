// OpenVLA-OFT with discrete tokens: what is said beside tensors that are a plain OpenVLA's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "apo/models/options.h"
#include "apo/tokenizers/statistics.h"
#include "base/json.h"

namespace apo::models {

class SafetensorsReader;

/// The member of config.json in which a checkpoint of ours says all of this.
inline constexpr const char* kOftBlock = "apo";

/// How a chunk of H actions of A numbers is decided in one pass: H A places that see everything, logits at
/// each.
struct OftConfig {
  int64_t chunk_steps = 0;    ///< H; 0: this is a plain OpenVLA
  bool stop_token = true;     ///< an end token stands behind the places
  bool among_actions = true;  ///< scores are softmaxes among the action tokens, else of the whole vocabulary
  bool lanczos = false;       ///< pictures come to the network's size by Lanczos, else bicubic
  std::vector<std::string> cameras;     ///< in the sequence's order; empty: the only one
  std::vector<std::string> state_keys;  ///< concatenated; empty: no state
  /// what config.json of a checkpoint of ours says of it; automatic where none does
  tokenizers::ActionNormalization action_normalization = tokenizers::ActionNormalization::automatic;
  tokenizers::VectorStatistics state;  ///< of the state, where there is one
  std::filesystem::path projector;     ///< file beside the model that holds the state projector; empty:
                                       ///< it is among the weights, or there is none
  std::map<std::string, at::Tensor> projector_tensors;  ///< of that file, until they are the network's
  int64_t max_positions = 2048;                         ///< that the sequence may have

  bool is_oft() const { return chunk_steps > 0; }

  /// From the options, else from the `apo` member of config.json beside the adapter, else of the checkpoint's
  /// `config`. All but the state's statistics.
  /// Errors  DataError naming the file for parts of an OpenVLA-OFT that have no action probabilities (action
  ///         heads, diffusion, FiLM), more than one state projector, fields that contradict the options, and,
  ///         with chunk_steps 0, for signs that this is an OpenVLA-OFT; ConfigError naming the key for a
  ///         state projector without state_keys and the reverse, and options of an OFT for a plain OpenVLA
  static OftConfig read(const PolicyOptions& options, const JsonFile& config,
                        const SafetensorsReader& weights, const std::filesystem::path& directory,
                        const std::filesystem::path& adapter);
  /// Puts it into the text of a config.json as the `apo` member.
  std::string written_into(const std::string& config_json) const;
  /// The same beside weights that hold a state projector of `state_size` numbers (0: none).
  std::string written_whole(const std::string& config_json, int64_t state_size) const;
};

/// Whether the network calls a tensor of its state projector so.
bool is_state_projector_tensor(const std::string& name);
/// Tensors that reinforcement learning adds for itself, and that are left alone.
bool is_value_head(const std::string& tensor);
/// The state projector's tensors as the network names them, out of the file beside the model.
/// DataError naming file and tensor for what is missing, of other shapes or one too many.
std::map<std::string, at::Tensor> read_state_projector(const std::filesystem::path& file, int64_t width);

}  // namespace apo::models
