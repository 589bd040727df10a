// What the tensors of a PaliGemma are called in a file: transformers, LeRobot, openpi and the converters of
// others each have their own prefixes.
#pragma once

#include <string>

namespace apo::models {

class SafetensorsReader;

struct PaliGemmaNames {
  /// In front of "embeddings...", "weight", "layers.0..." and so on.
  std::string vision, projector, language;
  /// Of the table of words and of the head; either may be missing. `head_copy`: a head in the file that is
  /// the same as the table.
  std::string embedding, head, head_copy;

  /// Whether words and head are one table.
  bool tied() const { return embedding.empty() || head.empty(); }

  /// Finds them. Prefixes that are known: anything up to "paligemma.", "model.", "vision_tower." with or
  /// without "vision_model.", "language_model." with or without "model." behind it, and "lm_head." alone or
  /// in "language_model.". DataError for a file that holds no PaliGemma, one whose names disagree, and a flow
  /// model (pi0, pi0.5).
  static PaliGemmaNames find(const SafetensorsReader& weights);
};

/// Whether a tensor belongs to what pi0-FAST does not use (an action expert).
bool is_unused_by_pi0_fast(const std::string& name);

}  // namespace apo::models
