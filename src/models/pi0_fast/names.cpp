#include "models/pi0_fast/names.h"

#include <torch/types.h>

#include <array>
#include <map>
#include <string_view>

#include "apo/base/error.h"
#include "apo/models/safetensors.h"

namespace apo::models {
namespace {

constexpr std::array<std::string_view, 4> kFlowParts{"action_in_proj.", "action_out_proj.",
                                                     "action_time_mlp_in.", "time_mlp_in."};

void replace_front(std::string& name, std::string_view from, std::string_view to) {
  if (name.starts_with(from)) name.replace(0, from.size(), to);
}

// "vision_tower...", "multi_modal_projector...", "language_model..." or "lm_head.weight".
std::string canonical(std::string name) {
  constexpr std::string_view kWrapper = "paligemma.";
  if (const size_t at = name.rfind(kWrapper); at != std::string::npos) name.erase(0, at + kWrapper.size());
  replace_front(name, "model.", "");
  replace_front(name, "vision_tower.vision_model.", "vision_tower.");
  replace_front(name, "language_model.model.", "language_model.");
  replace_front(name, "language_model.lm_head.", "lm_head.");
  return name;
}

}  // namespace

bool is_unused_by_pi0_fast(const std::string& name) {
  return name.find("gemma_expert.") != std::string::npos ||
         name.find("action_expert.") != std::string::npos || name.ends_with("rotary_emb.inv_freq") ||
         name.ends_with("embeddings.position_ids");
}

PaliGemmaNames PaliGemmaNames::find(const SafetensorsReader& weights) {
  std::map<std::string, std::string> by_canonical;
  for (const std::string& name : weights.names()) {
    for (const std::string_view part : kFlowParts)
      APO_CHECK(DataError, name.find(part) == std::string::npos, weights.path().string(), ": tensor ", name,
                ": found a flow model (pi0, pi0.5 or of their kind), which gives actions no probabilities; "
                "expected pi0-FAST, whose actions are tokens");
    if (is_unused_by_pi0_fast(name)) continue;
    const auto [place, is_new] = by_canonical.try_emplace(canonical(name), name);
    APO_CHECK(DataError, is_new, weights.path().string(), ": tensors ", place->second, " and ", name,
              " are the same part of a PaliGemma; expected one of them");
  }
  const auto prefix_of = [&](const std::string& part, const std::string& tensor) {
    const auto found = by_canonical.find(part + tensor);
    APO_CHECK(DataError, found != by_canonical.end(), weights.path().string(), ": no tensor ", part, tensor,
              " under any known prefix; expected the weights of a PaliGemma (pi0-FAST)");
    return found->second.substr(0, found->second.size() - tensor.size() - 1);
  };
  const auto name_of = [&](const std::string& tensor) {
    const auto found = by_canonical.find(tensor);
    return found != by_canonical.end() ? found->second : std::string();
  };
  PaliGemmaNames names;
  names.vision = prefix_of("vision_tower.", "embeddings.position_embedding.weight");
  names.projector = prefix_of("multi_modal_projector.linear.", "weight");
  names.language = prefix_of("language_model.", "norm.weight");
  names.embedding = name_of("language_model.embed_tokens.weight");
  names.head = name_of("lm_head.weight");
  APO_CHECK(DataError, !names.embedding.empty() || !names.head.empty(), weights.path().string(),
            ": expected language_model.embed_tokens.weight or lm_head.weight, found neither");
  if (!names.tied()) {
    const at::Tensor words = weights.tensor(names.embedding), head = weights.tensor(names.head);
    if (words.sizes() == head.sizes() && words.scalar_type() == head.scalar_type() && words.equal(head)) {
      names.head_copy = names.head;
      names.head.clear();
    }
    weights.release(names.embedding);
    weights.release(names.head_copy.empty() ? names.head : names.head_copy);
  }
  return names;
}

}  // namespace apo::models
