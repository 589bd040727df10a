// What lies beside the weights of a pi0-FAST checkpoint, in either dialect.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/pi0_fast/network.h"
#include "models/pi0_fast/prompt.h"
#include "models/pi0_fast/statistics.h"

namespace apo::models {

class SafetensorsReader;
struct PolicyOptions;

/// config.json and the statistics. openpi: `model_type: pi0_fast`, `dialect: openpi`; LeRobot: `type:
/// pi0_fast`, as its `save_pretrained` writes it.
struct Pi0FastConfig {
  Pi0FastDialect dialect = Pi0FastDialect::openpi;
  PaliGemmaNames names;
  Pi0FastShape shape;
  int64_t action_size = 0, horizon = 0;
  int64_t max_prompt = 0;    ///< tokens; longer ones are cut. 0: as openpi, where only the whole is cut
  int64_t max_sequence = 0;  ///< openpi: tokens of prompt and answer
  int64_t max_answer = 0;    ///< LeRobot: tokens of an answer, without the one before it
  int64_t max_decoding_steps = 256;
  int64_t skipped_tokens = 128;           ///< at the vocabulary's end, behind the codes
  std::vector<std::string> image_keys;    ///< slots, in the order of the sequence
  std::vector<int64_t> delta_dimensions;  ///< of the action, counted from the state
  std::optional<int64_t> state_size;      ///< LeRobot says it
  Pi0FastNormalization normalization;
  /// Small files of the checkpoint by their relative path, as they were, to be written back.
  std::map<std::string, std::string> companions;

  int64_t image_size() const { return shape.siglip.image_size; }

  /// DataError naming file and key, or tensor.
  static Pi0FastConfig read(const std::filesystem::path& directory, const SafetensorsReader& weights,
                            const PolicyOptions& options);
};

}  // namespace apo::models
